// Lines per folder (`npm run size`): all lines and lines of code, that is neither blank nor only a comment.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

export interface FolderSize {
  readonly folder: string;
  readonly files: number;
  readonly lines: number;
  readonly code: number;
}

const sourcesIn = (folder: string): string[] =>
  (readdirSync(folder, { recursive: true, encoding: 'utf8' }) as string[])
    .filter((name) => /\.(ts|mts|js|mjs|html)$/.test(name) && !name.includes('node_modules'))
    .map((name) => join(folder, name));

/** Counts the sources of one folder of the repository and everything below it. */
export function sizeOfFolder(folder: string): FolderSize {
  const texts = sourcesIn(join(root, folder)).map((file) => readFileSync(file, 'utf8').trimEnd().split('\n'));
  const all = texts.flat();
  const code = all.filter((line) => !/^\s*($|\/\/|\/\*|\*)/.test(line));
  return { folder, files: texts.length, lines: all.length, code: code.length };
}

const folders = ['engine', 'engine/ops', 'shaders', 'model', 'train', 'bench', 'test', 'examples'];
const rows = folders.filter((folder) => existsSync(join(root, folder))).map(sizeOfFolder);
const row = (name: string, cells: readonly (number | string)[]): string =>
  [name.padEnd(14), ...cells.map((cell) => String(cell).padStart(8))].join('');

console.log(row('folder', ['files', 'lines', 'code']));
for (const { folder, files, lines, code } of rows) {
  console.log(row(folder.includes('/') ? `  of it ${folder.split('/')[1]}` : folder, [files, lines, code]));
}
const top = rows.filter(({ folder }) => !folder.includes('/'));
const total = (key: 'files' | 'lines' | 'code') => top.reduce((sum, size) => sum + size[key], 0);
console.log(row('total', [total('files'), total('lines'), total('code')]));
