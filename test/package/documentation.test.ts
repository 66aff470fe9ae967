// The API reference: every name that an entry exports has a doc comment, and every type that they mention is exported, too.
// typedoc says so (its settings are in package.json); nothing is written.
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { execute, repository } from './consumer.js';

const test = suite('documentation');

test('npm run docs has nothing to complain about', async () => {
  const typedoc = join(repository, 'node_modules/typedoc/bin/typedoc');
  const { code, stdout, stderr } = await execute(process.execPath, [typedoc, '--emit', 'none'], repository);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal colours
  const said = (stdout + stderr).replace(/\x1b\[[0-9;]*m/g, '');
  assert.is(said.replace(/^Warning: .*\n/gm, '').trim(), '');
  assert.is(code, 0);
});

test.run();
