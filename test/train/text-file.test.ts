// Text as editors save it: every encoding and line end means the same list and the same JSON; and messages that cut what is long.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openDataset } from '../../train/data/datasets.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { cut, DataError, some } from '../../train/files/data-error.js';
import { decodeText, linesOf } from '../../train/files/text-file.js';
import { UsageError } from '../../train/files/usage-error.js';
import { readSettings } from '../../train/settings/config-file.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { refuses } from '../refuses.js';

const test = suite('text files');
const root = mkdtempSync(join(tmpdir(), 'wgrad-text-'));
test.after(() => rmSync(root, { recursive: true, force: true }));

const bigEndian = (text: string) => Buffer.from(text, 'utf16le').swap16();
/** A text in every encoding that is read. */
const encodings: Record<string, (text: string) => Buffer> = {
  'UTF-8': (text) => Buffer.from(text),
  'UTF-8 with a mark': (text) => Buffer.from(`\ufeff${text}`),
  'UTF-16LE with a mark': (text) => Buffer.from(`\ufeff${text}`, 'utf16le'),
  'UTF-16BE with a mark': (text) => bigEndian(`\ufeff${text}`),
  'UTF-16LE': (text) => Buffer.from(text, 'utf16le'),
  'UTF-16BE': bigEndian,
};

test('every encoding gives the same text', () => {
  for (const [name, encode] of Object.entries(encodings)) {
    for (const text of ['{"a": "Pätient 数据"}', 'a\r\nb', '7', '']) assert.is(decodeText(encode(text)), text, name);
  }
  assert.is(decodeText(Buffer.from('P\xe4tient', 'latin1')), 'Pätient');
});

test('lines end in LF, CRLF or CR; empty ones and spaces around do not count', () => {
  for (const end of ['\n', '\r\n', '\r'])
    assert.equal(linesOf(['a', ' ', '', 'b  ', '\tc d'].join(end)), ['a', 'b', 'c d']);
});

test('lists, splits.json, dataset.json and --config in every encoding', async () => {
  const [la, nnunet] = [join(root, 'la'), join(root, 'nnunet')];
  writePhantoms(la, { patients: 4, size: 16, layout: 'la' });
  writePhantoms(nnunet, { patients: 4, size: 16, layout: 'nnunet' });
  const names = [...new Set((await openDataset(la)).cases.map((c) => c.patient))];
  const [a, b, c, d] = names as [string, string, string, string];
  const info = JSON.stringify({ channel_names: { 0: 'MRI' }, labels: { background: 0, r: 1, m: 2, l: 3 } });
  for (const [name, encode] of Object.entries(encodings)) {
    writeFileSync(join(la, 'splits.json'), encode(JSON.stringify({ train: [c, a], val: [b], test: [d] })));
    assert.equal((await openDataset(la)).patients, { train: [c, a], val: [b], test: [d] }, name);
    writeFileSync(join(nnunet, 'dataset.json'), encode(info));
    assert.equal((await openDataset(nnunet)).classNames, ['background', 'r', 'm', 'l'], name);
    const config = join(root, 'config.json');
    writeFileSync(config, encode('{"size": 32, "features": [4, 8]}'));
    assert.is(resolveConfig({}, readSettings(config)).patch[0], 32, name);
  }
  rmSync(join(la, 'splits.json'));
  const ids = (await openDataset(la)).cases.map(({ id }) => id);
  for (const [name, encode] of Object.entries(encodings)) {
    for (const end of ['\n', '\r\n', '\r']) {
      const list = ids.filter((id) => !id.startsWith(d));
      writeFileSync(join(la, 'train.list'), encode(list.join(end)));
      writeFileSync(join(la, 'test.list'), encode(ids.filter((id) => id.startsWith(d)).join(end)));
      const { patients } = await openDataset(la);
      assert.equal([...patients.train, ...patients.val, ...patients.test].sort(), [...names].sort(), `${name} ${end}`);
    }
  }
});

test('long values are cut, and stay on one line', async () => {
  assert.is(cut('short'), 'short');
  assert.is(cut({ a: [1, 'b'] }), '{"a":[1,"b"]}');
  assert.is(cut(undefined), 'undefined');
  assert.is(cut('two\r\n\tlines'), 'two lines');
  const long = cut(`begin${'x'.repeat(3000)}end`);
  assert.match(long, /^beginx+…x+end \(3008 characters\)$/);
  assert.ok(long.length < 110);
  assert.match(cut('💔'.repeat(200)), /^(💔)+…(💔)+ \(400 characters\)$/u);
  assert.is(some([1, 2]), '1, 2');
  assert.is(some(['a', 'b', 'c'], 2), 'a, b, … (3 in all)');
  const value = 'x'.repeat(3000);
  for (const work of [
    () => resolveConfig({ size: value }),
    () => resolveConfig({ method: value }),
    () => resolveConfig({ [value]: 1 }),
    () => readSettings(value),
  ]) {
    await refuses(work, UsageError, /^(?!.{600})/s);
  }
  await refuses(() => openDataset(value), DataError, /^(?!.{600})/s);
});

test.run();
