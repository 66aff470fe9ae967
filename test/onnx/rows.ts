// Every row of ONNX's table.
import { absent } from './absent.js';
import { elementwise } from './elementwise.js';
import { networks } from './networks.js';
import type { Rows } from './node.js';
import { reductions } from './reductions.js';
import { shapes } from './shapes.js';

/** Every op of ONNX 1.12 (opset 17 and its preview of training), by name. */
export const rows: Rows = Object.fromEntries(
  Object.entries({ ...elementwise, ...reductions, ...shapes, ...networks, ...absent }).sort(([a], [b]) =>
    a < b ? -1 : 1,
  ),
);

/** The part of a row that needs no test: ONNX's name, and wgrad's words. */
export const rowHead = (op: string): string => {
  const row = rows[op]!;
  return `| \`${op}\` | ${typeof row === 'string' ? `not offered: ${row}` : row[0]} |`;
};
