// The table of ONNX's ops in engine/ONNX.md: it has the rows of test/onnx/, and, where ONNX's node tests are at hand, says what becomes of
// them. A wrong result never counts as passed.
import { readdirSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { testGpu } from './gpu.js';
import { dataFolder, lackingData, readDocument } from './onnx/document.js';
import { moved } from './onnx/node.js';
import { fieldsOf, floats, integers } from './onnx/protobuf.js';
import { rowHead, rows } from './onnx/rows.js';
import { difference, runTests } from './onnx/run.js';
import { summary, tableOf } from './onnx/table.js';
import { unless } from './unless.js';

const test = suite('onnx');
const { summary: summed, table } = readDocument();
const cells = table.split('\n').slice(2);

test('the page has the words of every row, in order', () => {
  assert.equal(
    cells.map((row) => row.split('|').slice(0, 3).join('|') + '|'),
    Object.keys(rows).map(rowHead),
  );
});

test('the page’s sum is that of its rows', () => {
  const counts = cells.map((row) => /^(\d+) of (\d+)$/.exec(row.split('|')[3]!.trim()) ?? ['', '0', '0']);
  const [passed, all] = [1, 2].map((i) => counts.reduce((sum, count) => sum + Number(count[i]), 0));
  const [total, one, few, many, none, failed] = summed.match(/\d+/g)!.map(Number);
  assert.equal([one! + few! + many!, total, failed], [passed, all, 0]);
  assert.is(total! - none!, passed);
});

test('protocol buffers: varints of 64 bits, packed and single numbers, nested bytes', () => {
  const minusTwo = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
  const fields = fieldsOf(Uint8Array.of(8, ...minusTwo, 8, 3, 10, 2, 5, 6, 21, 0, 0, 0xc0, 0x3f));
  assert.equal(integers(fields, 1), [-2, 3, 5, 6]);
  assert.equal(floats(fields, 2), [1.5]);
  assert.throws(() => fieldsOf(Uint8Array.of(10, 5, 1)), /5 bytes at 2 of 3/);
  assert.throws(() => fieldsOf(Uint8Array.of(8, 0x80)), /end within a number/);
});

test('axes are moved', () => {
  const { shape, values } = moved({ shape: [2, 3], values: [0, 1, 2, 3, 4, 5] }, [1, 0]);
  assert.equal(
    [shape, values],
    [
      [3, 2],
      [0, 3, 1, 4, 2, 5],
    ],
  );
});

test('what differs is found: a value, NaN, the shape, the kind of numbers', () => {
  const want = { type: 'float', shape: [2], values: [1, Number.NaN] };
  const got = (values: number[], shape = [2], isFloat = true) => difference({ shape, values, isFloat }, want);
  assert.is(got([1 + 9e-6, Number.NaN]), undefined);
  assert.is(got([1 + 2e-5, Number.NaN]), 'element 0: 1.00002, expected 1');
  assert.is(got([1, 0]), 'element 1: 0, expected NaN');
  assert.is(got([Number.NaN, Number.NaN]), 'element 0: NaN, expected 1');
  assert.is(got([1, Number.NaN], [1, 2]), 'shape [1,2], expected [2]');
  assert.is(got([1, Number.NaN], [2], false), 'integers, expected float');
});

unless(lackingData, test)('ONNX’s node tests give the page’s table, and none fails', async () => {
  const gpu = await testGpu();
  const verdicts = await runTests(gpu, dataFolder);
  assert.equal(
    verdicts.flatMap(({ name, failure }) => (failure ? [`${name}: ${failure}`] : [])),
    [],
  );
  assert.ok(verdicts.length > 800 && verdicts.length <= readdirSync(dataFolder).length);
  const narrow = new Set(verdicts.flatMap(({ op, lacksHalf }) => (lacksHalf ? [op] : [])));
  const sure = (row: string) => !narrow.has(/^\| `(\w+)`/.exec(row)?.[1] ?? '');
  assert.equal(tableOf(verdicts).split('\n').filter(sure), table.split('\n').filter(sure));
  if (narrow.size === 0) assert.is(summary(verdicts), summed);
});

test.run();
