// The report as text: what it holds, what it leaves out and says so, that nothing in it is taken for markup. How it looks
// and behaves is test/browser/report.test.ts.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { chartGroups } from '../../train/report/charts.js';
import { html } from '../../train/report/html.js';
import { overview, overviewText } from '../../train/report/numbers.js';
import { readRuns, reportPage, writeReport } from '../../train/report/page.js';
import { decimated, readRun } from '../../train/report/run-data.js';
import { refuses } from '../refuses.js';
import { type FakeRun, writeFakeRun } from './fake-run.js';

const test = suite('report');
const root = mkdtempSync(join(tmpdir(), 'wgrad-report-'));
test.after(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const fake = (options: FakeRun = {}, name = `run${folders++}`): string => {
  writeFakeRun(join(root, name), options);
  return join(root, name);
};
const pageOf = (...paths: string[]): string => reportPage(paths.map((path) => readRun(path)));
/** The text between tags. */
const words = (page: string): string =>
  page
    .replace(/<(script|style)\b[\s\S]*?<\/\1>/g, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ');

test('a run: its essentials, every section, notes only where something is missing', () => {
  const page = pageOf(fake());
  const text = words(page);
  for (const title of ['Curves', 'Prototypes', 'Slices', 'Classes', 'Cases', 'Confusion between classes', 'Settings']) {
    assert.match(page, new RegExp(`<h2>${title}</h2>`));
  }
  assert.match(text, /method lccs · 7 labelled patients · 400 of 400 iterations · best validation at iteration 400/);
  for (const name of [
    'Cross-entropy',
    'Class separation',
    'Fraction kept',
    'on dropped pixels',
    'Learning rate',
    'HD95 in mm',
    'Norm of each term’s gradient',
    'Cosine with the supervised gradient',
  ]) {
    assert.ok(text.includes(name), name);
  }
  assert.match(text, /Threshold: 0\.95 throughout/);
  assert.not.match(page, /class="notes"/);
  assert.is(page.match(/<img src="data:image\/png;base64,/g)?.length, 2);
  assert.not.match(page, /https?:\/\/(?!www\.w3\.org\/2000\/svg)/);
});

test('charts are there without a script: as many drawn as there are data for', () => {
  const run = readRun(fake());
  const charts = chartGroups([run]).flatMap((group) => group.charts);
  const [body] = reportPage([run]).split('<script');
  assert.is(body!.match(/<svg xmlns=/g)?.length, charts.length);
  assert.is(body!.match(/<div class="canvas"/g)?.length, charts.length);
  const lines = charts.flatMap((chart) => chart.lines);
  assert.ok(body!.match(/<polyline [^>]*stroke-width="2.5"/g)!.length >= lines.length);
  assert.ok(charts.length >= 9, `${charts.length} charts`);
});

test('a chart in words says where its lines end', () => {
  const page = pageOf(fake());
  const about = page.match(/aria-label="(Dice: [^"]*)"/g)!;
  assert.is(about.length, 2, 'the picture and the chart that answers');
  const dice = (name: string) => `${name} ends at 0\\.\\d+`;
  const words = ['mean', 'right ventricle', 'myocardium', 'left ventricle'].map(dice).join(', ');
  assert.match(about[0]!, new RegExp(`^aria-label="Dice: ${words}"$`));
});

test('long series: at most a thousand points, spikes and gaps survive', () => {
  const x = Array.from({ length: 30_000 }, (_, i) => i);
  const y = x.map((i): number | null => (i === 12_345 ? 1000 : i >= 20_000 && i < 21_000 ? null : 1));
  const series = decimated(x, y);
  assert.ok(2 * series.x.length <= 1000, `${series.x.length}`);
  assert.is(Math.max(...series.high!.map((v) => v ?? 0)), 1000);
  assert.is(Math.min(...series.low!.map((v) => v ?? 1)), 1);
  assert.ok(series.y.filter((v) => v === null).length >= 15);
  const spike = series.high!.indexOf(1000);
  assert.ok(Math.abs(series.x[spike]! - 12_345) <= 60);
  const exact = decimated(x.slice(0, 1000), y.slice(0, 1000));
  assert.equal([exact.x.length, exact.low], [1000, undefined]);
});

test('30 000 iterations and three runs: a page of less than 5 MB', () => {
  const long = (name: string, method: FakeRun['method']) => fake({ iterations: 30_000, evalEvery: 200, method }, name);
  const runs = [long('a', 'lccs'), long('b', 'supervised'), long('c', 'lccs')];
  const out = join(root, 'long.html');
  const began = performance.now();
  writeReport(runs, out);
  const seconds = (performance.now() - began) / 1000;
  assert.ok(statSync(out).size < 5e6, `${statSync(out).size} bytes`);
  assert.ok(seconds < 20, `${seconds} s`);
});

test('twenty runs: a page of less than 5 MB, lines that are told apart as far as there are ways to', () => {
  const [first, ...others] = Array.from({ length: 20 }, (_, i) => join(root, 'many', String(i)));
  writeFakeRun(first!, { iterations: 10_000, evalEvery: 100, slices: false });
  for (const other of others) cpSync(first!, other, { recursive: true });
  const out = join(root, 'many.html');
  writeReport([first!, ...others], out);
  assert.ok(statSync(out).size < 5e6, `${statSync(out).size} bytes`);
  const page = readFileSync(out, 'utf8');
  for (let style = 0; style < 12; style++) assert.ok(page.includes(`class="line s${style}"`), `style ${style}`);
  const looks = [...page.matchAll(/\.line\.s\d+ \{ (stroke: [^}]*)\}/g)].map(([, look]) => look);
  assert.is(new Set(looks).size, 12, 'colour and dash');
});

test('names and settings are text, never markup', () => {
  const evil = '<script>alert(1)</script>';
  const run = fake({
    cases: [evil, 'b"onclick="alert(2)', "c'&amp;"],
    config: { method: evil, note: '</script><b>' },
  });
  const page = pageOf(run);
  assert.not.match(page, /<script>alert/);
  assert.is(page.match(/<script\b/g)?.length, 2, 'the data and the code');
  assert.is(page.match(/<\/script>/g)?.length, 2);
  assert.ok(page.includes('b&quot;onclick=&quot;alert(2)'));
  assert.ok(page.includes('c&#39;&amp;amp;'));
  assert.is(
    html`<i title="${'"<'}">${['a', html`<b>`, '&']}${undefined}${false}</i>`.markup,
    '<i title="&quot;&lt;">a<b>&amp;</i>',
  );
});

test('a run that only just began: no numbers, and the page says so', () => {
  const run = fake();
  for (const name of ['log.jsonl', 'summary.json', 'environment.json', 'slices'])
    rmSync(join(run, name), { recursive: true });
  const text = words(pageOf(run));
  assert.match(text, /environment\.json is missing/);
  assert.match(text, /No iteration was logged yet/);
});

test('interrupted, no validation yet, a torn last line, a damaged line, a loss that was no number', () => {
  const run = fake({ iterations: 30, evalEvery: 100, slices: false });
  rmSync(join(run, 'summary.json'));
  writeFileSync(join(run, 'config.json'), '{"method":"lccs","iterations":50,"classes":4}');
  appendFileSync(join(run, 'log.jsonl'), '{"iteration":30,"loss":null,"ce":null}\n{"iteration":\n{"iteration":31,"lo');
  const text = words(pageOf(run));
  assert.match(text, /has finished 31 of 50 iterations/);
  assert.match(text, /log\.jsonl: 1 line is damaged/);
  assert.match(text, /not finite, first at iteration 30/);
  assert.match(text, /no validation yet/);
  assert.match(text, /no summary\.json/);
  assert.match(text, /Cross-entropy/);
});

test('settings that are no JSON, a summary of another shape, classes that nobody named', () => {
  const run = fake({ slices: false });
  writeFileSync(join(run, 'config.json'), '{');
  writeFileSync(
    join(run, 'summary.json'),
    '{"metric_per_case":"none","mean":{"1":{"Dice":"high"},"5":{"Dice":0.25}},"confusion":[[1],[2]]}',
  );
  const page = pageOf(run);
  assert.match(words(page), /config\.json cannot be read/);
  assert.match(words(page), /class 5 0\.2500/);
  assert.not.match(page, /Confusion/);
});

test('scores that do not exist are dashes, and sort as nothing', () => {
  const page = pageOf(fake());
  assert.match(page, /<td data-value="">–<\/td>/);
  assert.match(words(page), /missed: right ventricle/);
  assert.match(words(page), /1000\.?0? k|1\.0 M/);
  assert.match(page, /title="150 voxels of myocardium were called left ventricle">15\.0 %/);
});

test('several runs: one chart a quantity with a line a run, the best marked, what differs listed', () => {
  const [a, b] = [fake({}, 'first'), fake({ method: 'supervised', shift: 0.01, config: { lr: 0.02 } }, 'second')].map(
    readRun,
  );
  const groups = chartGroups([a!, b!]);
  const loss = groups.flatMap(({ charts }) => charts).find(({ title }) => title === 'Total loss')!;
  assert.equal(
    loss.lines.map(({ name, style }) => [name, style]),
    [
      ['first', 0],
      ['second', 1],
    ],
  );
  const page = reportPage([a!, b!]);
  const marked = [...page.matchAll(/<td class="best" data-value="([\d.]+)">/g)].map(([, value]) => Number(value));
  assert.is(marked.length, 5, 'three classes, their mean, HD95');
  assert.ok(marked.includes(b!.summary!.foreground.Dice!));
  const settings = page.slice(page.indexOf('<h2>Settings'));
  const differing = settings.slice(0, settings.indexOf('<details>'));
  assert.match(words(differing), /method lccs supervised/);
  assert.match(words(differing), /lr 0\.01 0\.02/);
  assert.not.match(differing, /seed/);
  const table = overviewText([a!, b!]).split('\n');
  assert.is(table.length, 3);
  assert.is(table[2]!.match(/\*/g)?.length, 5);
});

test('two runs of one name are told apart', () => {
  const runs = readRuns([fake({}, 'x/run'), fake({}, 'y/run')]);
  assert.equal(
    runs.map(({ name }) => name),
    ['x/run', 'y/run'],
  );
});

test('what was kept is the mean of the last quarter, shares of no pixels left out', () => {
  const run = readRun(fake({ iterations: 8, evalEvery: 100 }));
  const cell = overview(run).find(({ key }) => key === 'keptAccuracy')!;
  const log = readFileSync(join(run.folder, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.is(log[7].keptAccuracy, -1);
  assert.is(cell.value, log[6].keptAccuracy);
});

test('a folder that is no run is refused', async () => {
  await refuses(() => readRun(root), Error, /is no run folder — it holds neither config\.json nor log\.jsonl/);
});

const cli = fileURLToPath(new URL('../../train/cli.js', import.meta.url));

test('wgrad report: a table and the page’s path on stdout; JSON; wrong usage', () => {
  const [one, two] = [fake({}, 'cli-one'), fake({ method: 'supervised' }, 'cli-two')];
  const wgrad = (...args: string[]) =>
    execFileSync(process.execPath, [cli, 'report', ...args], { encoding: 'utf8', cwd: root });
  const stdout = wgrad('--run', one);
  assert.match(stdout, /^run +method +labelled +seed/);
  assert.match(stdout, /^cli-one +lccs +7 +1337 +400 /m);
  assert.is(stdout.trim().split('\n').at(-1), join(one, 'report.html'));
  assert.ok(existsSync(join(one, 'report.html')));
  wgrad('--run', one, two);
  assert.ok(existsSync(join(root, 'report.html')));
  const { page, runs } = JSON.parse(
    wgrad('--run', one, '--run', two, '--out', join(root, 'deep/er/page.html'), '--json'),
  );
  assert.ok(existsSync(page));
  assert.equal(
    runs.map(({ method }: { method: string }) => method),
    ['lccs', 'supervised'],
  );
  assert.is(runs[1].kept, null);
  for (const [args, code, says] of [
    [[], 2, /--run is required/],
    [['--run', join(root, 'nothing')], 2, /there is no folder/],
    [['--run', one, one], 2, /named twice/],
    [['--run', one, '--out', root], 2, /is a folder/],
    [['--run', one, '--out', '/proc/none/page.html'], 2, /cannot write '\/proc\/none\/page\.html' — .* --out/],
    [['--run', root], 1, /is no run folder/],
  ] as [string[], number, RegExp][]) {
    const { status, stderr } = spawnSync(process.execPath, [cli, 'report', ...args], { encoding: 'utf8', cwd: root });
    assert.is(status, code, stderr);
    assert.match(stderr, says);
    assert.is(stderr.trim().split('\n').length, 1, stderr);
  }
});

test.run();
