// Runs every *.test.js below this folder, each in a process of its own, three at a time: on two cores one of them often waits. uvu
// alone exits 0 for a throwing hook, a thrown non-Error, a forgotten test.run(), a pattern without files or a leftover .only, so this
// runner counts: exit code 0, a total above 0, all passed, none skipped unless the file prints `declared skips: N reason` (unless.ts
// does).
// Its last lines are how many were skipped, by reason, and then `N passed, N failed`, where a skipped test is neither.
//
// Without a GPU, the files run on the SwiftShader that npm carries, so that every machine tests the same: it compiles in a third of
// lavapipe's time, but has no f16. The tests that need f16 run on lavapipe, where there is one.
//
//   node dist/test/run.js [--quick] [PART OF A FILE'S PATH …]
//   node dist/test/run.js --op NAME …
//
// --quick leaves out what takes longer than ten seconds or so, and every op: what is left is `npm run check`'s.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { openDevice } from '../engine/node.js';
import { onlyNeedy } from './unless.js';

/** What became of one test file. */
export interface FileResult {
  readonly file: string;
  readonly passed: number;
  readonly failed: number;
  /** How many tests were declared as skipped, by reason. */
  readonly skipped: ReadonlyMap<string, number>;
  readonly seconds: number;
  /** Why the file failed; undefined when it passed. */
  readonly problem: string | undefined;
  readonly output: string;
}

/** The files that take longest, longest first, as the seconds printed by a run say: begun last, one would be waited for alone. */
export const longestFirst: readonly string[] = [
  ...['train/run-folder', 'train/sweep', 'browser-example/page', 'train/trainer', 'train/training', 'fuzz'],
  ...['grouped-norm', 'train/gradients', 'train/copy-paste', 'train/volumes'],
  ...['train/killed', 'readme', 'fusion', 'package/package', 'ops/mean-teacher-loss', 'train/export', 'train/predict'],
];

/** What `--quick` leaves out: files and folders, as paths begin. */
export const slow: readonly string[] = [
  ...longestFirst,
  ...[
    'bench/claim',
    'bench/experiment',
    'bench/export-work',
    'bench/kernels',
    'bench/paper',
    'bench/peers',
    'bench/step',
  ],
  ...[
    'bench/tune',
    'block-fusion',
    'documented-examples',
    'browser/',
    'drivers',
    'engine/failures',
    'errors',
    'examples',
    'gpu-defaults',
    'many-parts',
  ],
  ...['model', 'ops/', 'package/', 'runner'],
  ...['train/checkpoint', 'train/cli', 'train/evaluate.', 'train/inspect', 'train/layouts', 'train/loader'],
  ...['train/precision', 'train/protocol', 'train/report', 'train/run-'],
  ...['train/statistics', 'train/teacher', 'train/tfjs', 'train/views', 'train/vnet-', 'vnet'],
];

/** Paths of all `*.test.js` below a folder: those of `longestFirst`, then the others by name. */
export function testFiles(folder: string): string[] {
  const rank = (name: string) => {
    const at = longestFirst.indexOf(name.slice(0, -'.test.js'.length).split(sep).join('/'));
    return at < 0 ? longestFirst.length : at;
  };
  return (readdirSync(folder, { recursive: true, encoding: 'utf8' }) as string[])
    .filter((name) => name.endsWith('.test.js') && !name.split(sep).includes('node_modules'))
    .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))
    .map((name) => join(folder, name));
}

/** What a file's own output says of it. */
export type Verdict = Pick<FileResult, 'passed' | 'failed' | 'skipped' | 'problem'>;

/**
 * Reads uvu's summaries on stdout: how many passed, failed and were skipped, and why the file does not count as passed, if so.
 * `onlySome`: uvu counts what was not asked for as skipped.
 */
export function judge(stdout: string, exitCode: number | null, onlySome = false): Verdict {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal colours
  const plain = stdout.replace(/\x1b\[[0-9;]*m/g, '');
  const summary = /^ {2}Total: +(\d+)\n {2}Passed: +(\d+)\n {2}Skipped: +(\d+)\n {2}Duration:/gm;
  const summaries = [...plain.matchAll(summary)];
  const sum = (column: number) => summaries.reduce((total, columns) => total + Number(columns[column]), 0);
  const [total, passed, skips] = [sum(1), sum(2), sum(3)];
  const skipped = new Map<string, number>();
  const declaration = /^declared skips: (\d+) +(\S.*)$/gm;
  for (const [, count, reason] of plain.matchAll(declaration)) addTo(skipped, reason!, Number(count));
  const declared = [...skipped.values()].reduce((n, some) => n + some, 0);
  const silent = /\bskip(?:s|ped|ping)?\b *[:–—-].*/i.exec(plain.replace(summary, '').replace(declaration, ''));
  const bad = (problem: string) => ({ passed, failed: Math.max(1, total - passed), skipped, problem });
  if (passed !== total) return bad(`${total - passed} of ${total} failed, or a hook threw`);
  if (exitCode !== 0) return bad(exitCode === null ? 'was killed by a signal' : `exit code ${exitCode}`);
  if (total === 0) return bad('no test ran: is `test.run()` missing?');
  if (skips !== declared && !onlySome) {
    return bad(`${skips} skipped, ${declared} declared. Print \`declared skips: N reason\`, or do not skip.`);
  }
  if (silent) return bad(`a test prints '${silent[0]}' and counts as passed. Register it by \`unless\``);
  return { passed, failed: 0, skipped, problem: undefined };
}

function addTo(counts: Map<string, number>, key: string, count: number): void {
  counts.set(key, (counts.get(key) ?? 0) + count);
}

const children = new Set<ChildProcess>();

/** glibc keeps what compilers of shaders free instead of giving it back to the system, page by page, only to ask for it again. */
const keepMemory = {
  MALLOC_TRIM_THRESHOLD_: String(2 ** 30),
  MALLOC_MMAP_THRESHOLD_: String(2 ** 30),
};

/** lavapipe compiles in two thirds of the time without LLVM's optimisations; what is tested there takes no time to run. */
const quickLavapipe = { GALLIVM_PERF: 'nopt' };

/** The reason of a declared skip that another adapter can do something about. */
const noHalf = 'this adapter has no shader-f16';

/**
 * Runs one file, with a temporary folder of its own that goes with it. It is killed, and fails, when it has printed nothing (each
 * test that ends prints) for `timeout` seconds: how long a whole file takes depends on what else the machine does.
 */
export function runFile(file: string, timeout: number, environment: NodeJS.ProcessEnv = {}): Promise<FileResult> {
  const started = performance.now();
  const temporary = mkdtempSync(join(tmpdir(), 'wgrad-test-'));
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--enable-source-maps', '--unhandled-rejections=strict', file], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: process.platform !== 'win32', // a group of its own, so that what it started ends with it
      env: { ...keepMemory, ...process.env, FORCE_COLOR: '0', NO_COLOR: '1', TMPDIR: temporary, ...environment },
    });
    children.add(child);
    const everything: Buffer[] = [];
    const summary: Buffer[] = [];
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup(child);
    }, 1000 * timeout);
    child.stdout.on('data', (chunk: Buffer) => {
      everything.push(chunk);
      summary.push(chunk);
      timer.refresh();
    });
    child.stderr.on('data', (chunk: Buffer) => everything.push(chunk));
    let settled = false;
    const settle = (code: number | null, error?: Error) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      killGroup(child);
      children.delete(child);
      rmSync(temporary, { recursive: true, force: true, maxRetries: 5 });
      const output = Buffer.concat(everything)
        .toString()
        .replace(/^Warning: maxDynamic\w+ artificially reduced .*\n/gm, ''); // Dawn, at every start
      const seconds = (performance.now() - started) / 1000;
      const verdict = judge(Buffer.concat(summary).toString(), code, onlyNeedy in environment);
      const problem = timedOut ? `still running, and silent for ${timeout} s` : (error?.message ?? verdict.problem);
      resolve({ file, ...verdict, failed: problem ? Math.max(1, verdict.failed) : 0, problem, seconds, output });
    };
    child.on('error', (error) => settle(1, error));
    // 'exit' and a moment for the pipes: a grandchild that holds them open must not hold up the result.
    child.on('exit', (code) => setTimeout(settle, 2000, code).unref());
    child.on('close', (code) => settle(code));
  });
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(process.platform === 'win32' ? child.pid : -child.pid, 'SIGKILL');
  } catch {}
}

/**
 * What uvu would pass over in silence and a file's text shows: a leftover `.only(`, a suite that is never run, a test that returns
 * early on a condition and so counts as passed without having tested anything.
 */
export function sourceProblems(text: string): string[] {
  const problems: string[] = [];
  if (/\b\w+\.only\(/.test(text)) problems.push('holds .only( — remove it, or nothing else of the file runs');
  for (const [, name] of text.matchAll(/\b(\w+) = suite\(/g)) {
    if (!new RegExp(`\\b${name}\\.run\\(\\)`).test(text))
      problems.push(`the suite '${name}' is never run: add ${name}.run()`);
  }
  // As esbuild writes it: `test("name", async () => {`, or the function on a line of its own; indented by two, so that a statement of
  // the test's own body stands two deeper.
  for (const [, indent, body] of text.matchAll(
    /^( *)(?:\w+(?:\(.*\))?\(.*, )?(?:async )?\([\w, ]*\) => \{\n([\s\S]*?)^\1\}/gm,
  )) {
    const deeper = (by: number) => `^ {${indent!.length + by}}`;
    const early = new RegExp(
      `${deeper(2)}if \\(.*\\) (?:return\\b.*|\\{\\n(?:${deeper(4)}.*\\n)*?${deeper(4)}return\\b.*)$`,
      'm',
    );
    const found = early.exec(body!);
    if (found)
      problems.push(`a test ends early by '${found[0].trim()}' and counts as passed. Register it by \`unless\``);
  }
  return problems;
}

/** Runs all files below `folder` that match, prints a line each and the count last; resolves with the exit code. */
export async function runAll(
  folder: string,
  options: {
    filters?: readonly string[];
    /** Leaves out what is slow. */
    quick?: boolean;
    timeout?: number;
    jobs?: number;
    /** The adapter for tests that need f16, where the others' has none. */
    halfAdapter?: string | undefined;
    print?: (line: string) => void;
  } = {},
): Promise<number> {
  const { filters = [], quick = false, timeout = 900, jobs = 3, halfAdapter, print = console.log } = options;
  const isSlow = (file: string) => slow.some((begin) => relative(folder, file).split(sep).join('/').startsWith(begin));
  const all = (existsSync(folder) ? testFiles(folder) : []).filter((file) => !quick || !isSlow(file));
  const files = filters.length
    ? all.filter((file) => filters.some((part) => relative(folder, file).includes(part)))
    : all;
  let passed = 0;
  let failed = 0;
  const skipped = new Map<string, number>();
  for (const file of files) {
    for (const problem of sourceProblems(readFileSync(file, 'utf8'))) {
      failed++;
      print(`FAILED ${relative(folder, file)}: ${problem}.`);
    }
  }
  if (!files.length) {
    failed++;
    print(`FAILED: no test file in ${folder}${filters.length ? ` matches ${filters.join(', ')}` : ''}.`);
  }
  const report = (file: string, result: FileResult, adapter?: string): void => {
    passed += result.passed;
    failed += result.failed;
    if (result.problem) print(`\n${result.output.trimEnd()}\n`);
    for (const [reason, count] of result.skipped) addTo(skipped, reason, count);
    const skips = [...result.skipped].map(([reason, count]) => `, ${count} skipped: ${reason}`).join('');
    const name = `${relative(folder, file)}${adapter ? ` with f16 on ${adapter}` : ''}`;
    print(
      `${result.problem ? 'FAILED' : 'ok    '} ${result.seconds.toFixed(1).padStart(6)} s ${name}: ${result.passed} passed${skips}${result.problem ? ` — ${result.problem}` : ''}`,
    );
  };
  const queue = [...files];
  const ran = new Set<string>();
  await Promise.all(
    Array.from({ length: Math.min(jobs, files.length) }, async () => {
      for (let file = queue.shift(); file; file = queue.shift()) {
        const result = await runFile(file, timeout);
        ran.add(file);
        const halves = result.skipped.get(noHalf) ?? 0;
        if (!halfAdapter || !halves || result.problem) {
          report(file, result);
          continue;
        }
        const rest = new Map(result.skipped);
        rest.delete(noHalf);
        report(file, { ...result, skipped: rest });
        const half = await runFile(file, timeout, { WGRAD_ADAPTER: halfAdapter, [onlyNeedy]: '1', ...quickLavapipe });
        const missing = half.passed < halves ? `only ${half.passed} of the ${halves} tests with f16 ran` : undefined;
        const problem = half.problem ?? missing;
        report(
          file,
          { ...half, skipped: new Map(), problem, failed: problem ? Math.max(1, half.failed) : 0 },
          halfAdapter,
        );
      }
    }),
  );
  if (ran.size !== files.length) {
    failed++;
    print(`FAILED: ${files.length - ran.size} files did not run.`);
  }
  for (const [reason, count] of skipped) print(`${count} skipped: ${reason}`);
  print(`${passed} passed, ${failed} failed`);
  return failed || !passed ? 1 : 0;
}

/** What matters of an adapter; undefined when it is not there. */
async function lookAt(adapter: string | undefined): Promise<{ half: boolean; software: boolean } | undefined> {
  try {
    const gpu = await openDevice({ adapter, quiet: true });
    gpu.close();
    return { half: gpu.features.has('shader-f16'), software: gpu.adapter.software };
  } catch {
    return undefined;
  }
}

/** Chooses what the tests run on, as the head of this file says; returns the adapter for those that need f16. */
async function chooseAdapters(): Promise<string | undefined> {
  if (process.env.WGRAD_ADAPTER) return undefined;
  const best = await lookAt(undefined);
  if (!best?.software || !(await lookAt('swiftshader'))) return undefined;
  process.env.WGRAD_ADAPTER = 'swiftshader';
  return (await lookAt('lavapipe'))?.half ? 'lavapipe' : undefined;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      for (const child of children) killGroup(child);
      process.exit(130);
    });
  }
  const folder = dirname(fileURLToPath(import.meta.url));
  const timeout = Number(process.env.WGRAD_TEST_TIMEOUT ?? 900);
  const words = process.argv.slice(2);
  const names = words.filter((word) => !word.startsWith('--'));
  if (words.includes('--op') && !names.length) names.push('NAME'); // no file is called so, and that is said
  process.exitCode = await runAll(folder, {
    filters: names.map((name) => (words.includes('--op') ? join('ops', `${name}.test.js`) : name)),
    quick: words.includes('--quick'),
    timeout,
    halfAdapter: await chooseAdapters(),
  });
}
