// The fate of a storage's contents. The GPU gets work in portions that run as a whole or not at all; whether one ran is known
// later, when its error scopes report. Until then, and for as long as something is wrong, the storages that the portion wrote
// remember it: an error belongs to its launches and reaches whoever reads what they should have written.
//
//   contents             when                                                       a read
//   good                 the portion ran, on good contents                          gives them
//   wrong                never written, or computed from wrong contents             throws the error, until they are written anew
//   missed               an update in place did not run; they keep their values     throws the error once, unless it was thrown before
import { type Gpu, GpuError, type Outcome } from './device.js';
import type { Storage } from './memory.js';

/** The state of the contents; a fate has none until the GPU has reported. */
type Verdict = { kind: 'good' } | { kind: 'wrong' | 'missed'; error: GpuError };

const good: Verdict = { kind: 'good' };

/** What a portion did to one storage. */
interface Fate {
  /** Its contents began in that portion, so that nothing is left of them if it did not run. */
  readonly fresh: boolean;
  before: Fate | undefined;
  verdict: Verdict | undefined;
  /** Byte ranges that were written anew after that. */
  readonly renewed: { from: number; to: number }[];
  readonly done: Promise<void>;
}

const fates = new WeakMap<Storage, Fate>();

/** A storage and what a portion does to it. */
export interface Use {
  readonly storage: Storage;
  readonly offset: number;
  readonly bytes: number;
}

/** What a portion reads from storages, and what it writes to them. */
export interface Effects {
  /** What it computes from, without contents that it writes itself. */
  readonly reads: readonly Use[];
  readonly writes: readonly { readonly storage: Storage; readonly fresh: boolean }[];
}

/** The fate of a range, unless all is well with it. */
function trouble(gpu: Gpu, { storage, offset, bytes }: Use): Fate | undefined {
  const fate = fates.get(storage);
  if (!fate) return undefined;
  const over = fate.verdict?.kind === 'good' || (fate.verdict?.kind === 'missed' && gpu.isHeard(fate.verdict.error));
  if (over) {
    fates.delete(storage);
    return undefined;
  }
  return isRenewed(fate, offset, offset + bytes) ? undefined : fate;
}

function isRenewed({ renewed }: Fate, from: number, to: number): boolean {
  let reached = from;
  for (const range of renewed) if (range.from <= reached) reached = Math.max(reached, range.to);
  return reached >= to;
}

/** Whether contents are wrong, or not yet known to be good. */
export const isClouded = (gpu: Gpu, use: Use): boolean => trouble(gpu, use) !== undefined;

/** The error of wrong contents among `reads`, where it is known. */
export function wrongness(gpu: Gpu, reads: readonly Use[]): GpuError | undefined {
  for (const use of reads) {
    const verdict = trouble(gpu, use)?.verdict;
    if (verdict?.kind === 'wrong') return verdict.error;
  }
  return undefined;
}

/**
 * Notes what a portion does, before its outcome is known. `flaw` resolves with what is wrong with the results of a portion that ran
 * (for example a NaN). Resolves when everything about the portion is known.
 */
export function begin(
  gpu: Gpu,
  { reads, writes }: Effects,
  outcome: Outcome,
  flaw?: Promise<GpuError | undefined>,
): void {
  const sources = [...new Set(reads.map((use) => trouble(gpu, use)).filter((fate) => fate !== undefined))];
  const former = writes.map(({ storage, fresh }) => (fresh ? undefined : fates.get(storage)));
  const made: Fate[] = [];
  const done = gpu.track(
    (async () => {
      await Promise.all([outcome.done, ...sources.map((fate) => fate.done), ...former.map((fate) => fate?.done)]);
      const refused = outcome.error;
      const own = refused ?? (await flaw?.catch(() => undefined)); // a lost device; `lost` reports that
      if (own) gpu.failed(own);
      const ofSources = (kind: 'wrong' | 'missed'): GpuError | undefined => {
        for (const { verdict } of sources) if (verdict?.kind === kind) return verdict.error;
        return undefined;
      };
      const spoiled = ofSources('wrong') ?? (refused ? undefined : own);
      const stale = ofSources('missed');
      for (const fate of made) {
        fate.verdict = verdictOf(fate, refused, spoiled, stale);
        fate.before = undefined;
      }
    })(),
  );
  writes.forEach(({ storage, fresh }, i) => {
    const fate: Fate = { fresh, before: former[i], verdict: undefined, renewed: [], done };
    made.push(fate);
    fates.set(storage, fate);
  });
}

function verdictOf(
  { fresh, before }: Fate,
  refused: GpuError | undefined,
  spoiled: GpuError | undefined,
  stale: GpuError | undefined,
): Verdict {
  if (refused) {
    if (fresh) return { kind: 'wrong', error: refused };
    return before?.verdict?.kind === 'wrong' ? before.verdict : { kind: 'missed', error: refused };
  }
  if (spoiled) return { kind: 'wrong', error: spoiled };
  return stale ? { kind: 'missed', error: stale } : good;
}

/** Notes that a portion was withheld from the GPU: it has a launch that cannot run, or would compute from wrong contents. */
export function withhold(writes: Effects['writes'], error: GpuError): void {
  for (const { storage, fresh } of writes) {
    const before = fresh ? undefined : fates.get(storage);
    const verdict: Verdict =
      before?.verdict?.kind === 'wrong' ? before.verdict : { kind: fresh ? 'wrong' : 'missed', error };
    // An update in place whose outcome is still open keeps that fate.
    if (before && !before.verdict) continue;
    fates.set(storage, { fresh, before: undefined, verdict, renewed: [], done: Promise.resolve() });
  }
}

/** Notes that the host writes a range, which ends whatever was wrong with it. `outcome` is that of the write, where it may fail. */
export function renew(gpu: Gpu, { storage, offset, bytes }: Use, outcome?: Outcome): void {
  const whole = offset === 0 && bytes >= storage.bytes;
  const fate = fates.get(storage);
  if (whole) fates.delete(storage);
  else if (fate) {
    // Packed tensors begin at multiples of 256 bytes; the gaps between them hold nothing.
    fate.renewed.push({ from: offset, to: Math.ceil((offset + bytes) / 256) * 256 });
    fate.renewed.sort((a, b) => a.from - b.from);
    if (isRenewed(fate, 0, storage.bytes)) fates.delete(storage);
  }
  if (outcome) begin(gpu, { reads: [], writes: [{ storage, fresh: true }] }, outcome);
}

/** Makes the fate of one storage's contents that of another's, whose buffer it is given. */
export function inherit(to: Storage, from: Storage): void {
  const fate = fates.get(from);
  if (fate) fates.set(to, fate);
  else fates.delete(to);
}

/** Throws the error of these contents, once everything has reported. The error of a missed update is thrown once. */
export function checkContents(gpu: Gpu, use: Use): void {
  const verdict = trouble(gpu, use)?.verdict;
  if (!verdict || verdict.kind === 'good') return;
  gpu.hear(verdict.error);
  if (verdict.kind === 'wrong') throw verdict.error;
  throw new GpuError(
    `${verdict.error.message}\n'${use.storage.label}' was not updated: it holds what it held before, and can be read from now on.`,
  );
}
