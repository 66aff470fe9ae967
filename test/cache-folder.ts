// A cache folder of a test's own, so that what it keeps there meets nothing of the user's.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { testGpu } from './gpu.js';

/** Runs `work` with a new cache folder, which goes with it. The test's GPU is opened before: its driver may lie in the user's folder. */
export async function withCache(work: (folder: string) => Promise<void>): Promise<void> {
  await testGpu();
  const before = process.env.XDG_CACHE_HOME;
  const folder = mkdtempSync(join(tmpdir(), 'wgrad-cache-'));
  process.env.XDG_CACHE_HOME = folder;
  try {
    await work(folder);
  } finally {
    if (before === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = before;
    rmSync(folder, { recursive: true, force: true });
  }
}
