// One run of the experiment on a machine that is lent for minutes: continue it if pieces of it are there, train until the time is
// up or the run is done, pack it again. Training is `wgrad train` in a process of its own, stopped as by Ctrl-C, which saves.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UsageError } from '../../train/files/usage-error.js';
import { readLog } from '../../train/run/log.js';
import { describeCommand } from '../../train/settings/command-line.js';
import { pack, piecesOf, unpack } from './archive.js';
import { legs } from './legs.js';

const cli = fileURLToPath(new URL('../../train/cli.js', import.meta.url));

const called = 'node dist/bench/experiment/run-leg.js';

const command = describeCommand({
  name: 'run-leg',
  called,
  about: `
The published experiment, one run at a time. NAME: ${legs.map(({ name }) => name).join(', ')}.

       ${called} NAME … -- FLAGS               more flags for wgrad train, for instance -- --precision f16
       ${called} unpack DIR/NAME FOLDER        restores an archive (a data set, a run) from its pieces`,
  positionals: ['NAME'],
  flags: {
    data: { type: 'string', value: 'DIR', needed: true, help: 'the data set' },
    work: {
      type: 'string',
      value: 'DIR',
      needed: true,
      help: 'where runs live on this machine: a run that is there is continued',
    },
    from: {
      type: 'string',
      value: 'DIR',
      help: 'where pieces of an earlier time lie, NAME-0001, …: unpacked first if the run is not in --work',
    },
    out: {
      type: 'string',
      value: 'DIR',
      needed: true,
      help: 'where the run is packed to when the time is up or it is done, in pieces of at most 15 MiB',
    },
    minutes: { type: 'number', min: 0, default: 9, help: 'stop and save after N minutes' },
  },
  notes: 'Exit codes: 0 done or saved to be continued, else those of wgrad train.',
});

/** Trains until it ends or `seconds` are over; resolves with the exit code. */
function trainFor(seconds: number, args: readonly string[]): Promise<number> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [cli, 'train', ...args], { stdio: ['ignore', 'inherit', 'inherit'] });
    const timer = setTimeout(() => child.kill('SIGINT'), 1000 * seconds);
    child.on('error', fail);
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      done(code ?? (signal ? 1 : 0));
    });
  });
}

async function main(args: readonly string[]): Promise<number> {
  const end = args.indexOf('--');
  const [own, more] = end < 0 ? [[...args], []] : [args.slice(0, end), args.slice(end + 1)];
  if (!own.length || own.includes('--help')) {
    console.log(command.help);
    return own.length ? 0 : 2;
  }
  if (own[0] === 'unpack') {
    const [, archive, folder] = own;
    if (!archive || !folder) throw new UsageError('unpack: expected DIR/NAME FOLDER.');
    console.log(`${unpack(archive, folder).length} files in ${folder}`);
    return 0;
  }
  const { flags, positionals } = command.read(own);
  const found = legs.find(({ name }) => name === positionals[0]);
  if (!found)
    throw new UsageError(
      `run-leg: unknown leg '${positionals[0]}', expected one of ${legs.map((l) => l.name).join(', ')}.`,
    );
  const { data, work, out, from, minutes } = flags;
  const run = resolve(work, found.name);
  if (!existsSync(run) && from && piecesOf(join(from, found.name)).length) unpack(join(from, found.name), run);
  const isContinued = existsSync(join(run, 'config.json'));
  const settings = [...found.flags, '--protocol', 'acdc', ...more];
  const code = await trainFor(60 * minutes, [
    '--data',
    data,
    '--out',
    run,
    ...(isContinued ? ['--resume'] : []),
    ...settings,
  ]);
  if (!existsSync(join(run, 'config.json'))) return code; // it did not begin, and has said why
  const pieces = pack(run, join(out, found.name), { piece: 15 * 2 ** 20, quality: 5 });
  const { iterations } = JSON.parse(readFileSync(join(run, 'config.json'), 'utf8')) as { iterations: number };
  const reached = readLog(join(run, 'log.jsonl')).length;
  console.log(JSON.stringify({ leg: found.name, exitCode: code, reached, iterations, pieces: pieces.length }));
  return code === 130 ? 0 : code;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
