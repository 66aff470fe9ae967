// The command line as its users meet it: help, wrong usage, exit codes, what goes to stdout. Each case is a process.
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { commands } from '../../train/commands/index.js';
import { UsageError } from '../../train/files/usage-error.js';
import type { Described } from '../../train/settings/command-line.js';
import { patience } from '../patience.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('command line');
const cli = fileURLToPath(new URL('../../train/cli.js', import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const wgrad = (...args: string[]): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [cli, ...args], { stdio: ['ignore', 'pipe', 'pipe'], timeout: patience });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (text) => (stdout += text));
    child.stderr.on('data', (text) => (stderr += text));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });

/** Wrong usage: exit code 2, one line on stderr, nothing on stdout. */
async function refused(args: string[], says: RegExp): Promise<void> {
  const { code, stdout, stderr } = await wgrad(...args);
  assert.is(code, 2, `${args.join(' ')}: ${stderr}`);
  assert.is(stdout, '');
  assert.match(stderr, says);
  assert.is(stderr.trim().split('\n').length, 1, stderr);
}

test('help for all, help for each', async () => {
  const { code, stdout } = await wgrad('--help');
  assert.is(code, 0);
  for (const [name, { load }] of Object.entries(commands)) {
    assert.match(stdout, new RegExp(`^ {2}${name} `, 'm'));
    const { command } = await load();
    assert.match(command.help, new RegExp(`^usage: wgrad ${name} `));
  }
  // What a process prints is that text.
  for (const args of [
    ['evaluate', '--help'],
    ['help', 'evaluate'],
    ['evaluate', '--data', 'x', '-h'],
  ]) {
    const own = await wgrad(...args);
    assert.is(own.code, 0, own.stderr);
    assert.is(own.stdout, `${(await commands.evaluate!.load()).command.help}\n`);
  }
  assert.match((await wgrad('bench', 'step', '--help')).stdout, /^usage: wgrad bench step /);
});

/** The flags that a help lists, a line each: with the dashes, and what stands for the value. */
const listedIn = (help: string): { name: string; value: string | undefined }[] =>
  [...help.matchAll(/^ {2}(?:-\w, )?--([a-z-]+)(?: (\S+))?/gm)].map(([, name, value]) => ({ name: name!, value }));

test('every flag that is parsed is in the help, once, and the other way round: all commands, all flags', async () => {
  const tables: Described[] = [];
  for (const { load } of Object.values(commands)) {
    const { command, parts } = await load();
    tables.push(...(parts ? (Object.values(parts) as Described[]) : [command as Described]));
  }
  assert.is(tables.length, Object.keys(commands).length + 5, 'bench has six parts');
  let flags = 0;
  for (const { name, flags: known, positionals = [], help, read } of tables) {
    const listed = listedIn(help);
    assert.equal(listed.map((flag) => flag.name).sort(), Object.keys(known).sort(), name);
    const others = positionals.map((positional) => positional.replace(/[[\]…]/g, ''));
    for (const flag of listed) {
      const { type, choices, min = 0 } = known[flag.name]!;
      const isNumber = type === 'integer' || type === 'number';
      const value = type === 'boolean' ? [] : [choices?.[0] ?? (isNumber ? String(min) : 'x')];
      const needed = Object.entries(known).filter(([key, each]) => each.needed === true && key !== flag.name);
      const one = Object.keys(known).filter((key) => known[key]!.needed === 'one');
      const rest = [
        ...needed.flatMap(([key]) => [`--${key}`, 'x']),
        ...(one.length && !one.includes(flag.name) ? [`--${one[0]}`, 'x'] : []),
      ];
      const given = read([`--${flag.name}`, ...value, ...rest, ...others]).flags as Record<string, unknown>;
      assert.not.equal(given[flag.name], undefined, `${name} --${flag.name}`);
      // A letter less is another flag, and the message names this one.
      const mistyped = `--${flag.name.slice(0, -1)}`;
      if (!Object.hasOwn(known, mistyped.slice(2)) && flag.name.length > 3) {
        await refuses(
          () => read([mistyped]),
          UsageError,
          new RegExp(`^${name}: unknown flag ${mistyped}\\. (Did you|See)`),
        );
      }
      flags++;
    }
    for (const line of help.split('\n')) assert.ok(line.length <= 132, `${name}: ${line}`);
  }
  assert.ok(flags > 150, `${flags} flags`);
});

test('no command at all is wrong usage, and shows the help', async () => {
  const { code, stdout, stderr } = await wgrad();
  assert.is(code, 2);
  assert.is(stdout, '');
  assert.match(stderr, /usage: wgrad COMMAND/);
});

test('--no-fuse and --no-tune are taken by every command, wherever they stand', async () => {
  const small = ['--dry-run', '--size', '16', '--features', '4,8', '--batch', '2', '--adapter', 'null'];
  const launches = async (...args: string[]) => {
    const { code, stdout, stderr } = await wgrad('train', ...args);
    assert.is(code, 0, stderr);
    return (JSON.parse(stdout) as { launches: number }).launches;
  };
  const fused = await launches('--no-tune', ...small);
  const plain = await launches(...small, '--no-fuse');
  assert.ok(fused < plain, `${fused} launches fused, ${plain} not`);
});

test('the version is the package’s', async () => {
  assert.match((await wgrad('--version')).stdout, /^\d+\.\d+\.\d+\n$/);
});

test('unknown names: the nearest known one', async () => {
  await refused(['trian'], /unknown command 'trian'\. Did you mean train\?/);
  await refused(['zzzzzzzzzz'], /See wgrad --help/);
  await refused(['constructor'], /unknown command 'constructor'/);
  await refused(['--hlep'], /unknown flag '--hlep'/);
  await refused(['info', '--jsno'], /info: unknown flag --jsno\. Did you mean --json\?/);
  await refused(['phantom', 'x', '--patient', '3'], /Did you mean --patients\?/);
  await refused(['info', '--__proto__'], /unknown flag --__proto__/);
});

test('malformed flags and arguments', async () => {
  await refused(['info', '--adapter'], /--adapter needs a value/);
  await refused(['info', '--adapter', '--json'], /--adapter needs a value/);
  await refused(['info', '--json=yes'], /--json takes no value/);
  await refused(['info', 'extra'], /unexpected argument 'extra'/);
  await refused(['phantom'], /OUT is missing/);
  await refused(['phantom', 'a', 'b'], /unexpected argument 'b'/);
  for (const value of ['2', '3.5', '-1', 'many', '', 'NaN', '1e99']) {
    await refused(['phantom', 'x', `--patients=${value}`], /--patients must be a whole number from 3 to 999 — got/);
  }
});

test('phantom writes where nothing is, and says where it wrote', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'wgrad-cli-'));
  try {
    const file = join(folder, 'precious.txt');
    writeFileSync(file, 'data');
    for (const out of [folder, file]) {
      const { code, stdout, stderr } = await wgrad('phantom', out);
      assert.is(code, 1);
      assert.is(stdout, '');
      assert.match(stderr, /^phantom: .*(not empty|cannot write)/);
    }
    assert.is(readFileSync(file, 'utf8'), 'data');
    const out = join(folder, 'hearts');
    const written = await wgrad('phantom', out, '--patients', '3', '--size', '16');
    assert.is(written.code, 0, written.stderr);
    assert.is(written.stdout, `${out}\n`);
    assert.ok(existsSync(join(out, 'splits.json')));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('info: one JSON document on stdout and nothing else, or a table', async () => {
  const { code, stdout, stderr } = await wgrad('info', '--json');
  assert.is(code, 0, stderr);
  const about = JSON.parse(stdout);
  assert.type(about.adapter.software, 'boolean');
  assert.ok(about.adapter.driver);
  assert.ok(about.limits.maxStorageBufferBindingSize >= 2 ** 27);
  assert.ok(Array.isArray(about.features));
  assert.is(about.versions.node, process.versions.node);
  assert.match(about.versions.webgpu, /^\d+\.\d+/);
  const table = await wgrad('info');
  assert.is(table.code, 0);
  assert.match(table.stdout, /^driver +\S/m);
});

test('a failure is one line and exit code 1', async () => {
  const { code, stdout, stderr } = await wgrad('info', '--adapter', 'no such adapter');
  assert.is(code, 1);
  assert.is(stdout, '');
  assert.match(stderr, /no adapter is called 'no such adapter'/);
  assert.not.match(stderr, /^\s+at .*\.[jt]s\b/m); // Dawn's own warnings, where Vulkan has drivers and no device, name its sources
});

test('a reader that goes away is no failure', async () => {
  const child = spawn(process.execPath, [cli, '--help'], { stdio: 'pipe' });
  child.stdout.destroy();
  let said = '';
  child.stderr.on('data', (text) => (said += text));
  const code = await new Promise((resolve) => child.on('close', resolve));
  assert.is(said, '');
  assert.is(code, 0);
});

unless(existsSync('/dev/full') ? undefined : 'no /dev/full', test)(
  'a full disk at stdout: exit 1 and a line that says so',
  async () => {
    const full = openSync('/dev/full', 'w');
    const child = spawn(process.execPath, [cli, '--help'], { stdio: ['ignore', full, 'pipe'] });
    closeSync(full);
    let said = '';
    child.stderr!.on('data', (text) => (said += text));
    assert.is(await new Promise((resolve) => child.on('close', resolve)), 1);
    assert.match(said, /cannot write to stdout: the disk is full/);
  },
);

test.run();
