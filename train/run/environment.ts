// Where something was computed: adapter, driver, versions, commit. Stored with every run and every measurement.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import type { AdapterDescription, Gpu } from '../../engine/index.js';
import { dawnFile } from '../../engine/node.js';
import { checked, objectWith, text } from '../files/schema.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');

export interface Environment {
  readonly adapter: AdapterDescription;
  readonly versions: { readonly wgrad: string; readonly node: string; readonly webgpu: string | undefined };
  /** Of wgrad's own repository; undefined when it is an installed package. `+` marks uncommitted changes. */
  readonly commit: string | undefined;
  readonly platform: string;
  readonly cpu: string;
}

const versionIn = (file: string): string => (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;

/** wgrad's own version. */
export const version = (): string => versionIn(join(root, 'package.json'));

function dawnVersion(): string | undefined {
  const file = dawnFile();
  return file && versionIn(join(dirname(file), 'package.json'));
}

/** Read once: the code that runs is that of the process's start. */
let known: { commit: string | undefined } | undefined;

function readCommit(): string | undefined {
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', root, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    if (git('rev-parse', '--show-prefix') !== '') return undefined; // a package inside of somebody's repository
    const changes = git('status', '--porcelain', '--untracked-files=no');
    return `${git('rev-parse', '--short=12', 'HEAD')}${changes ? '+' : ''}`;
  } catch {
    return undefined;
  }
}

/** What an environment.json must hold for its run to be resumed. */
const savedEnvironment = objectWith({
  adapter: v.optional(objectWith({ description: v.optional(text) })),
  initWeights: v.optional(text),
});

/** A run's environment.json, as far as resuming needs it; undefined where it cannot be read. */
export function readEnvironment(path: string): v.InferOutput<typeof savedEnvironment> | undefined {
  try {
    return checked(savedEnvironment, JSON.parse(readFileSync(path, 'utf8'))).value;
  } catch {
    return undefined;
  }
}

/** Describes this process and its GPU. */
export const environmentOf = (gpu: Gpu): Environment => ({
  adapter: gpu.adapter,
  versions: { wgrad: version(), node: process.versions.node, webgpu: dawnVersion() },
  commit: (known ??= { commit: readCommit() }).commit,
  platform: `${process.platform} ${process.arch}`,
  cpu: `${availableParallelism()} × ${cpus()[0]?.model.trim() ?? 'unknown'}`,
});
