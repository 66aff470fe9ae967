// Learning rates as functions of the step: numbers, for `optimizer.learningRate` or a tensor of one number.
import { checkOptions, showValue } from '../arguments.js';
import { ShapeError } from '../shape.js';

function checkCounts(op: string, counts: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(counts)) {
    if (typeof value === 'number' && value >= 0 && Number.isFinite(value)) continue;
    throw new ShapeError(`${op}: ${name} is ${showValue(value)} — expected a number from 0 on.`);
  }
}

/** Options of `polynomialSchedule`. */
export interface PolynomialSchedule {
  /** Steps until the rate is `final`. */
  steps: number;
  /** The rate of step 0. */
  initial: number;
  /** Default 0.9. */
  power?: number;
  /** The rate from step `steps` on; default 0. */
  final?: number;
}

/**
 * final + (initial − final) · (1 − step/steps)^power, and `final` from step `steps` on.
 * @example
 * console.log(polynomialSchedule(50, { steps: 100, initial: 0.1, power: 1 })); // 0.05
 */
export function polynomialSchedule(step: number, options: PolynomialSchedule): number {
  checkOptions('polynomialSchedule', options, ['steps', 'initial', 'power', 'final']);
  const { steps, initial, power = 0.9, final = 0 } = options;
  checkCounts('polynomialSchedule', { step, steps, initial, power, final });
  return step >= steps ? final : final + (initial - final) * (1 - step / steps) ** power;
}

/** Options of `cosineSchedule`. */
export interface CosineSchedule {
  /** Steps until the rate is `final`, those of the warm-up included. */
  steps: number;
  /** The rate after the warm-up. */
  initial: number;
  /** Steps over which the rate rises in equal parts; the first has initial/warmUp. Default 0. */
  warmUp?: number;
  /** The rate from step `steps` on; default 0. */
  final?: number;
}

/**
 * Linear warm-up, then half a cosine from `initial` to `final` (Loshchilov & Hutter, ICLR 2017), and `final` from step `steps` on.
 * @example
 * console.log(cosineSchedule(50, { steps: 100, initial: 0.1 })); // 0.05
 */
export function cosineSchedule(step: number, options: CosineSchedule): number {
  checkOptions('cosineSchedule', options, ['steps', 'initial', 'warmUp', 'final']);
  const { steps, initial, warmUp = 0, final = 0 } = options;
  checkCounts('cosineSchedule', { step, steps, initial, warmUp, final });
  if (step < warmUp) return (initial * (step + 1)) / warmUp;
  if (step >= steps) return final;
  return final + ((initial - final) * (1 + Math.cos((Math.PI * (step - warmUp)) / (steps - warmUp)))) / 2;
}
