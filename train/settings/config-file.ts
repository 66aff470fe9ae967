// Settings in files: a user's own JSON, and published protocols, which ship with the package as train/protocols/NAME.json.
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { nearest } from '../../engine/custom.js';
import { cut, whyNot } from '../files/data-error.js';
import { textIn } from '../files/text-file.js';
import { UsageError } from '../files/usage-error.js';

/** The settings in a JSON file, as a layer for resolveConfig. Throws a UsageError for a file that cannot be read, or is not a JSON object. */
export function readSettings(file: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(textIn(file));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
    throw new Error('it does not hold a JSON object');
  } catch (error) {
    throw new UsageError(`config: cannot read ${file} — ${cut(whyNot(error), 160)}.`);
  }
}

/** Protocols lie in the package, three folders above the built file. */
const folder = join(dirname(fileURLToPath(import.meta.url)), '../../../train/protocols');

/** Names of all protocols. */
export const protocolNames = (): string[] =>
  readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length))
    .sort();

/**
 * The settings of a protocol, as a layer for resolveConfig: those of its file, on top of those of the protocol that its file
 * names under `protocol`, if any. Throws a UsageError with the nearest name for an unknown one.
 */
export function readProtocol(name: string): Record<string, unknown> {
  const known = protocolNames();
  if (known.includes(name)) {
    const { protocol, ...own } = readSettings(join(folder, `${name}.json`));
    return protocol === undefined ? own : { ...readProtocol(String(protocol)), ...own };
  }
  const near = nearest(name, known);
  throw new UsageError(
    `config: unknown protocol '${name}'. ${near ? `Did you mean '${near}'?` : `Expected ${known.join(', ')}. Use --config FILE for other settings.`}`,
  );
}

/** The flag of commands that take a protocol. */
export const protocolFlag = {
  type: 'string',
  value: 'NAME',
  help: `settings of a published protocol (${protocolNames().join(', ')}); --config and flags override it`,
} as const;

/** Settings of a command line on top of those of the protocol that it names, if it names one. */
export const layered = ({
  protocol,
  ...given
}: { readonly protocol?: string } & Record<string, unknown>): Record<string, unknown> =>
  protocol === undefined ? given : { ...readProtocol(protocol), ...given };
