// Published protocols as settings files that come with the package: train/protocols/NAME.json beside package.json.
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { nearestName, UsageError } from './config.js';

// The same two levels up from the source, from the build and from an installed package.
const folder = join(dirname(fileURLToPath(import.meta.url)), '../../train/protocols');

/** Names of the protocols that there are. */
export const protocolNames = (): string[] =>
  readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length))
    .sort();

/** The settings file of a protocol; throws a UsageError that names the nearest for one that there is not. */
export function protocolFile(name: string): string {
  const known = protocolNames();
  if (known.includes(name)) return join(folder, `${name}.json`);
  const near = nearestName(name, known);
  throw new UsageError(
    `config: unknown protocol '${name}'. ${near ? `Did you mean '${near}'?` : `There is ${known.join(', ')}; --config FILE takes any other.`}`,
  );
}
