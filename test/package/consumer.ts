// A project that uses the package: the repository's sources are copied, packed as a release is (prepack included), and installed
// by npm without a network. The package has no dependencies, so nothing lies beside it until a test links a peer.
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { patience } from '../patience.js';

/** The repository, seen from a compiled test. */
export const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');

/** What this file reads of package.json. */
export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly bin: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
  readonly scripts: Readonly<Record<string, string>>;
}

/** The repository's package.json. */
export const manifest: Manifest = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8'));

/** How a program ended, and what it wrote. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; kills it when it does not end. */
export function execute(
  program: string,
  args: readonly string[],
  folder: string,
  { environment = {} }: { environment?: Record<string, string> } = {},
): Promise<Ended> {
  return new Promise((done, fail) => {
    const child = spawn(program, args, {
      cwd: folder,
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: patience,
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (text) => (stdout += text));
    child.stderr.on('data', (text) => (stderr += text));
    child.on('error', fail);
    child.on('close', (code) => done({ code, stdout, stderr }));
  });
}

/** As `execute`; throws what the program wrote unless it ended well. */
export async function executed(...call: Parameters<typeof execute>): Promise<string> {
  const { code, stdout, stderr } = await execute(...call);
  if (code !== 0) throw new Error(`${call[0]} ${call[1].join(' ')}: exit code ${code}\n${stdout}\n${stderr}`);
  return stdout;
}

const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';

/** What a release is made of: what the build reads, and what npm puts into every package. */
const sources = ['.ci', 'engine', 'shaders', 'model', 'train', 'bench', 'examples', 'test'];
const files = ['package.json', 'tsconfig.json', 'README.md', 'CHANGELOG.md', 'LICENSE'];

export class Consumer {
  /** The consumer's project. */
  readonly folder: string;
  /** The package as it was unpacked into it. */
  readonly installed: string;
  /** Bytes of the tarball. */
  packed = 0;
  readonly #root = mkdtempSync(join(tmpdir(), 'wgrad-package-'));

  constructor() {
    this.folder = join(this.#root, 'consumer');
    this.installed = join(this.folder, 'node_modules', manifest.name);
  }

  /** Packs and installs. */
  async install(): Promise<void> {
    const release = join(this.#root, 'release');
    mkdirSync(release, { recursive: true });
    for (const name of sources) {
      cpSync(join(repository, name), join(release, name), {
        recursive: true,
        filter: (path) => !path.includes('node_modules') && !path.endsWith('.test.ts'),
      });
    }
    for (const name of files) cpSync(join(repository, name), join(release, name));
    symlinkSync(join(repository, 'node_modules'), join(release, 'node_modules'), 'junction');
    const [tarball] = JSON.parse(await executed(npm, ['pack', '--json', '--loglevel=error'], release)) as {
      filename: string;
      size: number;
    }[];
    if (!tarball) throw new Error('npm pack made nothing');
    this.packed = tarball.size;
    mkdirSync(this.folder);
    writeFileSync(
      join(this.folder, 'package.json'),
      JSON.stringify({ name: 'consumer', private: true, type: 'module' }),
    );
    await executed(npm, ['install', '--offline', '--loglevel=error', join(release, tarball.filename)], this.folder);
  }

  /** Puts another package of the repository's beside wgrad. */
  link(name: string): void {
    const place = join(this.folder, 'node_modules', name);
    mkdirSync(dirname(place), { recursive: true });
    symlinkSync(join(repository, 'node_modules', name), place, 'junction');
  }

  /** Takes it away again. */
  unlink(name: string): void {
    rmSync(join(this.folder, 'node_modules', name));
  }

  /** Writes a file of the consumer's. Returns its path. */
  write(name: string, text: string): string {
    const path = join(this.folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    return path;
  }

  /** Runs a module of the consumer's under Node. */
  async node(name: string, text: string, options?: Parameters<typeof execute>[3]): Promise<string> {
    return executed(process.execPath, [this.write(name, text)], this.folder, options);
  }

  /** Every file of the installed package, by its path in it. */
  contents(): string[] {
    return (readdirSync(this.installed, { recursive: true, withFileTypes: true }) as import('node:fs').Dirent[])
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(this.installed.length + 1))
      .map((path) => path.replaceAll('\\', '/'))
      .sort();
  }

  remove(): void {
    rmSync(this.#root, { recursive: true, force: true });
  }
}
