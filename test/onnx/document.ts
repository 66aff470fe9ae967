// engine/ONNX.md: what stands above its table, the line that sums it up, and the table.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const file = fileURLToPath(new URL('../../../engine/ONNX.md', import.meta.url));
const heading = '\n## The table\n\n';

/** Where the tests are: WGRAD_ONNX, else the folder of Debian's package. */
export const dataFolder = process.env.WGRAD_ONNX ?? '/usr/share/libonnx-testdata/data/node';

/** Why the tests cannot run here, for `unless`. */
export const lackingData = existsSync(dataFolder) ? undefined : 'no node tests of ONNX (WGRAD_ONNX names their folder)';

export interface Document {
  readonly above: string;
  readonly summary: string;
  readonly table: string;
}

export function readDocument(): Document {
  const [above, below] = readFileSync(file, 'utf8').split(heading);
  if (below === undefined) throw new Error(`onnx: ${file} has no heading '${heading.trim()}'.`);
  const [summary = '', ...table] = below.trim().split('\n\n');
  return { above: above!, summary, table: table.join('\n\n') };
}

export const writeDocument = ({ above, summary, table }: Document): void =>
  writeFileSync(file, `${above}${heading}${summary}\n\n${table}\n`);
