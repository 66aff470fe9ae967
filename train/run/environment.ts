// The environment of a computation: adapter, driver, versions, commit. Every run and every measurement stores it.
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
  /** The commit of wgrad's own repository, with a `+` for uncommitted changes; undefined in an installed package. */
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

/** The commit, read once: the running code is that of the process's start. */
let known: { commit: string | undefined } | undefined;

function readCommit(): string | undefined {
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', root, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    if (git('rev-parse', '--show-prefix') !== '') return undefined; // a package inside another repository
    const changes = git('status', '--porcelain', '--untracked-files=no');
    return `${git('rev-parse', '--short=12', 'HEAD')}${changes ? '+' : ''}`;
  } catch {
    return undefined;
  }
}

/** The part of environment.json that resuming uses. */
const savedEnvironment = objectWith({
  adapter: v.optional(objectWith({ description: v.optional(text) })),
  initWeights: v.optional(text),
});

/** That part of a run's environment.json; undefined where it cannot be read. */
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
