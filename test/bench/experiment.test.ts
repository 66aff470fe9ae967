// The experiment's kit: its legs are settings that training takes, and what is packed runs where nothing else is installed.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { legs } from '../../bench/experiment/legs.js';
import { readProtocol } from '../../train/settings/config-file.js';
import { resolveConfig } from '../../train/settings/settings.js';

const test = suite('experiment');

const script = (name: string): string => fileURLToPath(new URL(`../../bench/experiment/${name}.js`, import.meta.url));
const node = (args: readonly string[], cwd?: string) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', cwd });
  return { status, stdout, stderr };
};

test('every leg is the protocol with another method or number of labels', () => {
  const names = new Set(legs.map(({ name }) => name));
  assert.is(names.size, legs.length);
  for (const { name, flags } of legs) {
    const given: Record<string, string> = {};
    for (let i = 0; i < flags.length; i += 2) given[flags[i]!.slice(2)] = flags[i + 1]!;
    const config = resolveConfig(given, readProtocol('acdc'));
    assert.is(`${config.method}-${config.labeled}`, name);
    assert.is(config.iterations, 30000);
  }
});

test('the kit runs from a folder of its own', () => {
  const folder = mkdtempSync(join(tmpdir(), 'wgrad-kit-'));
  try {
    const built = node([script('build-kit'), join(folder, 'kit')]);
    assert.is(built.status, 0, built.stderr);
    const program = (name: string): string => join(folder, 'kit', 'wgrad', 'dist', name);
    const phantom = node([program('train/cli.js'), 'phantom', 'data', '--patients', '3', '--size', '16'], folder);
    assert.is(phantom.status, 0, phantom.stderr);
    const tested = node([program('test/run.js'), 'train/nifti'], folder);
    assert.match(tested.stdout, /^\d+ passed, 0 failed$/m, tested.stderr);
    const unknown = node(
      [program('bench/experiment/run-leg.js'), 'lccs-70', '--data', 'data', '--work', 'w', '--out', 'o'],
      folder,
    );
    assert.is(unknown.status, 2);
    assert.match(unknown.stderr, /unknown leg 'lccs-70', expected one of lccs-7, /);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
