// One run of the experiment on a machine that is lent for minutes: continue it if pieces of it are there, train until the time is
// up or the run is done, pack it again. Training is `wgrad train` in a process of its own, stopped as by Ctrl-C, which saves.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readCommandLine } from '../../train/command-line.js';
import { UsageError } from '../../train/config.js';
import { readLog } from '../../train/log.js';
import { pack, piecesOf, unpack } from './archive.js';
import { legs } from './legs.js';

const command = fileURLToPath(new URL('../../train/cli.js', import.meta.url));

const help = `The published experiment, one run at a time

usage: node dist/bench/experiment/run-leg.js NAME --data DIR --work DIR --out DIR [--from DIR] [--minutes N] [-- FLAGS]
       node dist/bench/experiment/run-leg.js unpack DIR/NAME FOLDER

NAME: ${legs.map(({ name }) => name).join(', ')}

  --data DIR       the data set
  --work DIR       where runs live on this machine: a run that is there is continued
  --from DIR       where pieces of an earlier time lie, NAME-0001, …: unpacked first if the run is not in --work
  --out DIR        where the run is packed to when the time is up or it is done, in pieces of at most 15 MiB
  --minutes N      stop and save after N minutes (default 9)
  -- FLAGS         more flags for wgrad train, for instance -- --precision f16

unpack: restores an archive (a data set, a run) from its pieces.

Exit codes: 0 done or saved to be continued, else those of wgrad train.`;

/** Trains until it ends or `seconds` are over; resolves with the exit code. */
function trainFor(seconds: number, args: readonly string[]): Promise<number> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [command, 'train', ...args], { stdio: ['ignore', 'inherit', 'inherit'] });
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
    console.log(help);
    return own.length ? 0 : 2;
  }
  if (own[0] === 'unpack') {
    const [, archive, folder] = own;
    if (!archive || !folder) throw new UsageError('unpack: expected DIR/NAME FOLDER.');
    console.log(`${unpack(archive, folder).length} files in ${folder}`);
    return 0;
  }
  const { flags, positionals } = readCommandLine(
    'run-leg',
    own,
    {
      data: { type: 'string' },
      work: { type: 'string' },
      out: { type: 'string' },
      from: { type: 'string' },
      minutes: { type: 'number', min: 0 },
    },
    ['NAME'],
  );
  const found = legs.find(({ name }) => name === positionals[0]);
  if (!found)
    throw new UsageError(
      `run-leg: unknown leg '${positionals[0]}', expected one of ${legs.map((l) => l.name).join(', ')}.`,
    );
  const { data, work, out, from, minutes = 9 } = flags;
  if (!data || !work || !out) throw new UsageError('run-leg: --data, --work and --out are needed.');
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
