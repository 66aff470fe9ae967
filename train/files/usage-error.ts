// The one error for wrong usage: flags, settings, folders named on the command line.
import { readable } from './data-error.js';

/**
 * Wrong usage: the command line ends with exit code 2.
 * @example
 * try { resolveConfig({ bach: 2 }); } catch (error) { console.log(error instanceof UsageError); } // true
 */
export class UsageError extends Error {
  override name = 'UsageError';
  constructor(message: string, options?: ErrorOptions) {
    super(readable(message), options);
  }
}
