// What each method consists of. The rows of an ablation are switches of one trainer, so that they differ in nothing else.
import type { Config } from '../settings/settings.js';

export interface MethodParts {
  /** There is a teacher and unlabelled items; without it, only labelled ones are used. */
  readonly teacher: boolean;
  /** Which unlabelled pixels are kept: all, those of (low) confidence, or those of low uncertainty over several passes. */
  readonly keeps: 'all' | 'confidence' | 'uncertainty';
  /** Student and teacher must agree on what is kept. */
  readonly consistency: boolean;
  /** Features are drawn to the prototypes of their classes. */
  readonly separation: boolean;
  /** Items show boxes of each other, and the loss is that of bidirectional copy-paste (copy-paste.ts). */
  readonly pastes: boolean;
}

const parts: Record<Config['method'], MethodParts> = {
  supervised: { teacher: false, keeps: 'all', consistency: false, separation: false, pastes: false },
  mt: { teacher: true, keeps: 'all', consistency: true, separation: false, pastes: false },
  uamt: { teacher: true, keeps: 'uncertainty', consistency: true, separation: false, pastes: false },
  'lccs-consistency': { teacher: true, keeps: 'confidence', consistency: true, separation: false, pastes: false },
  'lccs-separation': { teacher: true, keeps: 'confidence', consistency: false, separation: true, pastes: false },
  bcp: { teacher: true, keeps: 'all', consistency: true, separation: false, pastes: true },
  lccs: { teacher: true, keeps: 'confidence', consistency: true, separation: true, pastes: false },
};

/** The parts of a configuration's method. */
export const partsOf = ({ method }: Pick<Config, 'method'>): MethodParts => parts[method];
