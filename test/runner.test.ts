// The runner itself: each way in which uvu passes in silence must come out red, and a good file green. The fixtures are
// written to a temporary folder and run by the runner's own functions.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';
import { judge, longestFirst, runAll, slow, sourceProblems, testFiles } from './run.js';
import { unless } from './unless.js';

const test = suite('runner');
const uvu = import.meta.resolve('uvu');
const good = `test('good', () => {});`;
// Spelled apart, so that the runner does not take the fixtures' text for this file's own.
const only = 'only';
const make = 'suite';
const lines = (...all: string[]) => all.join('\n');

/** Runs fixtures (name → body of a file with a uvu suite `test`); returns the exit code and what was printed. */
async function run(
  files: Record<string, string>,
  options: { timeout?: number; filters?: string[]; quick?: boolean; halfAdapter?: string } = {},
) {
  const folder = mkdtempSync(join(tmpdir(), 'wgrad-runner-'));
  try {
    for (const [name, body] of Object.entries(files)) {
      const path = join(folder, `${name}.test.js`);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
      writeFileSync(path, `import { suite } from '${uvu}';\nconst test = suite('fixture');\n${body}\n`);
    }
    const lines: string[] = [];
    const code = await runAll(folder, { timeout: 20, ...options, print: (line) => lines.push(line) });
    return { code, text: lines.join('\n'), last: lines.at(-1)! };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const red: Record<string, { body: string; says: RegExp; last?: RegExp }> = {
  'a failing test': {
    body: `${good} test('bad', () => { throw new Error('on purpose'); }); test.run();`,
    says: /on purpose[\s\S]*1 of 2 failed/,
    last: /^1 passed, 1 failed$/,
  },
  'a before hook that throws': {
    body: `test.before(() => { throw new Error('hook'); }); ${good} test.run();`,
    says: /1 of 1 failed, or a hook threw/,
  },
  'an after.each hook that throws and hides a failure': {
    body: `test.after.each(() => { throw new Error('hook'); }); test('bad', () => { throw new Error('x'); }); ${good} test.run();`,
    says: /2 of 2 failed, or a hook threw/,
  },
  'an after hook that throws': {
    body: `test.after(() => { throw new Error('hook'); }); ${good} test.run();`,
    says: /exit code/,
  },
  'a thrown string, and the tests after it': {
    body: `${good} test('bad', () => { throw 'text'; }); test('never reached', () => {}); test.run();`,
    says: /2 of 3 failed/,
  },
  'a forgotten test.run()': { body: good, says: /no test ran[\s\S]*/ },
  'a forgotten run() of a second suite': {
    body: `const second = ${make}('second'); second('never', () => {}); ${good} test.run();`,
    says: /the suite 'second' is never run/,
  },
  'a suite without tests': { body: 'test.run();', says: /no test ran/ },
  'a leftover .only': { body: `test.${only}('one', () => {}); test.run();`, says: /holds \.only\(/ },
  'a skipped test': { body: `${good} test.skip('later', () => {}); test.run();`, says: /1 skipped, 0 declared/ },
  'a wrong declaration of skips': {
    body: `console.log('declared skips: 2 no data here'); ${good} test.skip('later', () => {}); test.run();`,
    says: /1 skipped, 2 declared/,
  },
  'a skip that is printed and passed': {
    body: `${good} test('f16', () => console.log('skipped: no f16 here')); test.run();`,
    says: /a test prints 'skipped: no f16 here' and counts as passed/,
  },
  'a skip beside a declared one': {
    body: `console.log('declared skips: 1 no data here'); test.skip('later', () => {}); test('f16', () => console.log('Skipping — no f16')); test.run();`,
    says: /a test prints 'Skipping — no f16' and counts as passed/,
  },
  'a test that returns early without a word': {
    body: lines(
      `test('f16', async () => {`,
      '  if (!globalThis.f16) return;',
      `  throw new Error('x');`,
      '});',
      'test.run();',
    ),
    says: /a test ends early by 'if \(!globalThis\.f16\) return;' and counts as passed/,
  },
  'a test that prints in other words and returns': {
    body: lines(
      `test('f16', async () => {`,
      '  if (!globalThis.f16) {',
      `    console.log('only the refusal is tested');`,
      '    return;',
      '  }',
      '});',
      'test.run();',
    ),
    says: /a test ends early by 'if \(!globalThis\.f16\) \{/,
  },
  'a test that never ends': {
    body: `test('hangs', () => new Promise(() => { setInterval(() => {}, 1000); })); test.run();`,
    says: /still running, and silent for 1 s/,
  },
  'a promise that never settles': {
    body: `test('ends early', () => new Promise(() => {})); test.run();`,
    says: /exit code/,
  },
  'a rejection nobody handles': {
    body: `test('late', () => { void Promise.reject(new Error('late')); }); test.run();`,
    says: /exit code|failed/,
  },
  'a process that exits 0 half way': {
    body: `${good} test('leaves', () => process.exit(0)); test.run();`,
    says: /no test ran|exit code/,
  },
  'a file that does not load': { body: `import './missing.js'; ${good} test.run();`, says: /exit code 1/ },
  'a crash': { body: `${good} test('dies', () => process.kill(process.pid, 'SIGKILL')); test.run();`, says: /killed/ },
};

for (const [name, { body, says, last }] of Object.entries(red)) {
  test(`red: ${name}`, async () => {
    const result = await run({ fixture: body }, { timeout: /never ends/.test(name) ? 1 : 20 });
    assert.is(result.code, 1, result.text);
    assert.match(result.text, says);
    assert.match(result.last, last ?? /^\d+ passed, [1-9]\d* failed$/);
  });
}

test('red: a pattern that matches no file, and a folder without files', async () => {
  const unmatched = await run({ one: `${good} test.run();` }, { filters: ['two'] });
  assert.is(unmatched.code, 1);
  assert.match(unmatched.text, /no test file in .* matches two/);
  assert.is(unmatched.last, '0 passed, 1 failed');
  assert.is(await runAll(join(tmpdir(), 'wgrad-no-such-folder'), { print: () => {} }), 1);
});

test('green: good files, a filter, declared skips, several suites', async () => {
  const files = {
    'ops/one': `${good} test.run(); const more = ${make}('more'); more('m', () => {}); more.run();`,
    two: `console.log('declared skips: 1 no data here'); ${good} test.skip('later', () => {}); test.run();`,
    three: `console.log('declared skips: 2 no data here'); console.log('declared skips: 1 no f16'); for (let i = 0; i < 3; i++) test.skip('later', () => {}); ${good} test.run();`,
  };
  const all = await run(files);
  assert.is(all.code, 0, all.text);
  assert.equal(all.text.split('\n').slice(-3), ['3 skipped: no data here', '1 skipped: no f16', '4 passed, 0 failed']);
  assert.match(all.text, /two\.test\.js: 1 passed, 1 skipped: no data here$/m);
  assert.is((await run(files, { filters: ['ops'] })).last, '2 passed, 0 failed');
});

test('tests that need f16 run on an adapter that has it, and all of them must', async () => {
  const half = (more: string) =>
    `const half = process.env.WGRAD_ADAPTER === 'other'; const one = half ? test['only'].bind(test) : test.skip.bind(test);
    one('f16', () => {}); ${more} if (!half) console.log('declared skips: 2 this adapter has no shader-f16'); ${good} test.run();`;
  const both = await run({ a: half(`one('too', () => {});`) }, { halfAdapter: 'other' });
  assert.is(both.last, '3 passed, 0 failed', both.text);
  assert.match(both.text, /a\.test\.js: 1 passed\n.*a\.test\.js with f16 on other: 2 passed$/m);
  assert.match((await run({ a: half(`one('too', () => {});`) })).text, /^2 skipped: this adapter has no shader-f16$/m);
  const fewer = await run({ a: half(`if (!half) test.skip('too', () => {});`) }, { halfAdapter: 'other' });
  assert.match(fewer.text, /only 1 of the 2 tests with f16 ran/);
  assert.is(fewer.code, 1);
});

test('one red file turns the whole run red', async () => {
  const result = await run({ a: `${good} test.run();`, b: `test('bad', () => { throw 1; }); test.run();` });
  assert.is(result.code, 1);
  assert.is(result.last, '1 passed, 1 failed');
});

test('an early end is seen in a test of any shape, and only there', () => {
  const early = (...body: string[]) => sourceProblems(lines(...body)).length;
  const end = '  if (!data) return;';
  assert.is(early(`test("a", async () => {`, end, '});'), 1);
  assert.is(early(`  inBrowser(\`a\`, async (page, url) => {`, `  ${end}`, '  });'), 1);
  assert.is(early('unless(missing, test)(', `  "a",`, '  () => {', `  ${end}`, '  }', ');'), 1);
  assert.is(early('for (const f of files) {', '  test(f, async () => {', `  ${end}`, '  });', '}'), 1);
  assert.is(early(`test("a", async () => {`, '  for (const x of all) {', `  ${end}`, '  }', '});'), 0);
  assert.is(early('function part() {', end, '}', `test("a", () => {`, '  part();', '});'), 0);
});

test('what is missing is declared by `unless`, what is there is tested', () => {
  const registered: string[] = [];
  const fixture = Object.assign((name: string) => registered.push(name), { skip: () => registered.push('skip') });
  const { log } = console;
  const printed: string[] = [];
  console.log = (line: string) => printed.push(line);
  try {
    unless(undefined, fixture as unknown as Test)('there', () => {});
    unless('no data here', fixture as unknown as Test)('missing', () => {});
  } finally {
    console.log = log;
  }
  assert.equal(registered, ['there', 'skip']);
  assert.equal(printed, ['declared skips: 1 no data here']);
});

test('the files that take longest are there, and begin first', () => {
  const folder = dirname(fileURLToPath(import.meta.url));
  const files = testFiles(folder).map((file) => relative(folder, file));
  assert.equal(
    files.slice(0, longestFirst.length),
    longestFirst.map((name) => `${name}.test.js`),
  );
});

test('what --quick leaves out is there', () => {
  const folder = dirname(fileURLToPath(import.meta.url));
  const files = testFiles(folder).map((file) => relative(folder, file).split(sep).join('/'));
  for (const begin of slow)
    assert.ok(
      files.some((file) => file.startsWith(begin)),
      begin,
    );
  const quick = files.filter((file) => !slow.some((begin) => file.startsWith(begin)));
  assert.ok(quick.includes('layers.test.js') && quick.includes('shaders.test.js'), quick.join());
});

test('with --quick, slow files do not run', async () => {
  const body = `${good} test.run();`;
  const { text, last } = await run({ fusion: body, 'ops/conv': body, layers: body }, { quick: true });
  assert.match(text, /layers/);
  assert.is(last, '1 passed, 0 failed');
});

test('a summary is believed only as uvu writes it', () => {
  const summary = '\n  Total:     2\n  Passed:    2\n  Skipped:   0\n  Duration:  1ms\n';
  assert.is(judge(summary, 0).problem, undefined);
  assert.ok(judge('Total: 2\nPassed: 2\n', 0).problem);
  assert.ok(judge(summary, 1).problem);
  assert.ok(judge(summary, null).problem);
  assert.equal(sourceProblems(`const test = suite('x');\ntest.run();`), []);
});

test.run();
