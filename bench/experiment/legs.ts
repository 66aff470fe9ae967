// The runs of the published experiment (ACDC with 3, 7 and 14 labelled patients), the most telling first. Everything that a leg does
// not name is the protocol's: train/protocols/acdc.json.

export interface Leg {
  readonly name: string;
  /** Flags of `wgrad train` beyond the protocol. */
  readonly flags: readonly string[];
}

const leg = (method: string, labeled: number): Leg => ({
  name: `${method}-${labeled}`,
  flags: ['--method', method, '--labeled', String(labeled)],
});

export const legs: readonly Leg[] = [
  leg('lccs', 7),
  leg('supervised', 7),
  leg('mt', 7),
  leg('lccs', 14),
  leg('lccs', 3),
  leg('lccs-consistency', 7),
  leg('lccs-separation', 7),
  leg('uamt', 7),
];
