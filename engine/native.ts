// What Node, Bun and Deno do each in its own way: keep a shared library in the process, and set an environment variable that C
// code sees.
import { constants } from 'node:os';

/** What is used of `bun:ffi`. */
interface BunLibraries {
  dlopen(
    path: string,
    functions: Readonly<Record<string, { readonly args: readonly string[]; readonly returns: string }>>,
  ): { readonly symbols: Readonly<Record<string, (...values: unknown[]) => unknown>> };
}

/** What is used of Deno. */
interface DenoLibraries {
  dlopen(path: string, functions: object): unknown;
}

const bun = (): BunLibraries | undefined =>
  process.versions.bun === undefined ? undefined : (process.getBuiltinModule('bun:ffi') as BunLibraries);
const deno = (): DenoLibraries | undefined => (globalThis as { Deno?: DenoLibraries }).Deno;

/** Libraries that Bun and Deno would close once nothing refers to them. */
const kept: unknown[] = [];

/**
 * Loads a shared library that is no Node addon and leaves it in the process, where later libraries find it by its name; false if there
 * is none. `symbol` is a function that it has.
 */
export function loadLibrary(path: string, symbol: string): boolean {
  const [bunFfi, denoFfi] = [bun(), deno()];
  try {
    if (bunFfi) kept.push(bunFfi.dlopen(path, { [symbol]: { args: [], returns: 'ptr' } }));
    else if (denoFfi) kept.push(denoFfi.dlopen(path, {}));
    else {
      const { RTLD_NOW, RTLD_GLOBAL } = constants.dlopen;
      const keepLoaded = 0x1000; // RTLD_NODELETE, which Node does not list
      process.dlopen({ exports: {} }, path, RTLD_NOW | RTLD_GLOBAL | keepLoaded);
    }
    return true;
  } catch (error) {
    return /did not self-register/.test((error as Error).message); // Node has loaded it, and found that it is no addon
  }
}

/** Sets an environment variable for this process, or removes it. Bun changes a copy of the environment; C is told by its own function. */
export function setVariable(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
  const libc = bun()?.dlopen('libc.so.6', {
    setenv: { args: ['ptr', 'ptr', 'i32'], returns: 'i32' },
    unsetenv: { args: ['ptr'], returns: 'i32' },
  });
  if (!libc) return;
  const { setenv, unsetenv } = libc.symbols;
  const text = (characters: string) => Buffer.from(`${characters}\0`);
  if (value === undefined) unsetenv!(text(name));
  else setenv!(text(name), text(value), 1);
}
