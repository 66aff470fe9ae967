#!/usr/bin/env node
import { nearest } from '../engine/custom.js';
// The command `wgrad`: finds the subcommand, runs it, turns errors into one line and an exit code. Progress and errors go
// to stderr, results to stdout. Each command is a file of its own, loaded when it is called.
import { GpuLostError } from '../engine/index.js';
import { commands } from './commands/index.js';
import { cut, whyNot } from './files/data-error.js';
import { UsageError } from './files/usage-error.js';
import { version } from './run/environment.js';
import { flagLines, switches } from './settings/command-line.js';

/** Exit codes that are decided here; an interrupted command returns 130 itself, after saving. */
const exitCodes = { done: 0, failed: 1, usage: 2, lost: 3 } as const;

/** The environment variable that each switch of every command stands for. */
const variables: Record<keyof typeof switches, string> = { 'no-fuse': 'WGRAD_FUSE', 'no-tune': 'WGRAD_TUNE' };

const help = `wgrad: semi-supervised segmentation on WebGPU

usage: wgrad COMMAND [flags]

${Object.entries(commands)
  .map(([name, { about }]) => `  ${name.padEnd(10)} ${about}`)
  .join('\n')}

wgrad COMMAND --help   show what a command does and takes
wgrad --version

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the GPU was lost, 130 interrupted (after saving).
Every command takes:
${flagLines(switches)}

WGRAD_ADAPTER=NAME     GPU or driver to use: swiftshader, lavapipe, or part of a GPU's name`;

/** Runs one command line (without `node wgrad`) and resolves with its exit code; never rejects. */
async function main(args: readonly string[]): Promise<number> {
  const [name = '--help', ...rest] = args;
  try {
    if (name === '--version' || name === '-v') {
      console.log(version());
      return exitCodes.done;
    }
    if (name === '--help' || name === '-h' || (name === 'help' && !rest.length)) {
      (args.length ? console.log : console.error)(help);
      return args.length ? exitCodes.done : exitCodes.usage;
    }
    const wanted = name === 'help' ? rest[0]! : name;
    const command = Object.hasOwn(commands, wanted) ? commands[wanted] : undefined;
    if (!command) {
      const near = nearest(wanted, Object.keys(commands));
      const kind = wanted.startsWith('-') ? 'flag' : 'command';
      throw new UsageError(
        `wgrad: unknown ${kind} '${cut(wanted)}'. ${near ? `Did you mean ${near}?` : 'See wgrad --help.'}`,
      );
    }
    const { command: table, parts = {}, run } = await command.load();
    const flags = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
    if (name === 'help' || flags.includes('--help') || flags.includes('-h')) {
      const part = (name === 'help' ? rest.slice(1) : flags)[0] ?? '';
      console.log((Object.hasOwn(parts, part) ? parts[part]! : table).help);
      return exitCodes.done;
    }
    for (const [name, variable] of Object.entries(variables)) {
      if (flags.includes(`--${name}`)) process.env[variable] = '0';
    }
    const own = flags.filter((flag) => !(flag.startsWith('--') && Object.hasOwn(switches, flag.slice(2))));
    return await run([...own, ...rest.slice(flags.length)]);
  } catch (error) {
    return report(error);
  }
}

/** Prints one message about what went wrong to stderr, and returns the exit code for it. */
function report(error: unknown): number {
  const { message, stack, code, syscall, path } = (
    error instanceof Error ? error : new Error(String(error))
  ) as NodeJS.ErrnoException;
  const place = path === undefined ? (syscall ?? '') : `'${path}'`;
  const isSystem = code !== undefined && syscall !== undefined;
  console.error(
    isSystem ? `wgrad: cannot use ${place} — ${whyNot(error)}. What was already written is kept.` : message,
  );
  if (error instanceof UsageError) return exitCodes.usage;
  if (Number(process.env.WGRAD_DEBUG ?? 0) > 0) console.error(stack);
  return error instanceof GpuLostError ? exitCodes.lost : exitCodes.failed;
}

/**
 * A stream that cannot be written to is reported once, and the work continues. A reader that went away (`wgrad … | head`) does not change
 * the exit code; a full disk makes it a failure.
 */
let cannotWrite = false;
for (const name of ['stdout', 'stderr'] as const) {
  process[name].on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE' || error.code === 'ERR_STREAM_DESTROYED' || cannotWrite) return;
    cannotWrite = true;
    process.exitCode ||= exitCodes.failed;
    if (name === 'stdout') console.error(`wgrad: cannot write to stdout: ${whyNot(error)}.`);
  });
}
process.on('uncaughtException', (error) => process.exit(report(error))); // and unhandled rejections

const exitCode = await main(process.argv.slice(2));
process.exitCode = exitCode || (cannotWrite ? exitCodes.failed : exitCodes.done);
// The process ends by itself; should a failed command have left a worker or a device open, it ends a little later.
setTimeout(() => process.exit(), 3000).unref();
