// Folders for a command's results, never one that already holds something.
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { whyNot } from './data-error.js';
import { UsageError } from './usage-error.js';

/** Makes a folder and its parents one by one: Node 20's recursive mkdir never returns below /proc. */
export function makeFolder(path: string): void {
  if (existsSync(path)) return;
  makeFolder(dirname(path));
  mkdirSync(path);
}

/** Throws a UsageError when `path` exists and holds something; `hint` is another way out. */
export function checkNew(command: string, path: string, hint = ''): void {
  if (existsSync(path) && !(statSync(path).isDirectory() && readdirSync(path).length === 0)) {
    throw new UsageError(`${command}: '${path}' exists and is not an empty folder. Name a new one${hint}.`);
  }
}

/**
 * Makes `path` a new, empty folder. Throws a UsageError when it exists and holds something, or cannot be written; `hint` is another
 * way out.
 */
export function newFolder(command: string, path: string, hint = ''): void {
  checkNew(command, path, hint);
  folderAt(command, path);
}

/** Makes `path` a folder unless it is one. Throws a UsageError where it is something else or cannot be made. */
export function folderAt(command: string, path: string): void {
  if (existsSync(path) && !statSync(path).isDirectory()) {
    throw new UsageError(`${command}: '${path}' is not a folder. Name another one.`);
  }
  try {
    makeFolder(resolve(path));
  } catch (error) {
    throw new UsageError(`${command}: cannot write to '${path}' — ${whyNot(error)}. Name another folder.`);
  }
}
