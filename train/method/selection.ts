// Which pixels a method keeps: by what they are measured, and the threshold.

import { sizeOf } from '../../engine/custom.js';
import type { Tensor } from '../../engine/index.js';
import type { Config } from '../settings/settings.js';
import type { TeacherTerms } from './losses.js';
import { partsOf } from './methods.js';
import type { Teacher } from './teacher.js';
import type { Threshold } from './threshold.js';

/**
 * What the losses are to keep, from the images and the student's and teacher's logits; records the launches that the threshold
 * or the uncertainty need.
 */
export function keptPixels(
  config: Config,
  threshold: Threshold,
  teacher: Teacher,
  images: Tensor,
  student: Tensor,
  q: Tensor,
): Omit<TeacherTerms, 'logits' | 'kind' | 'confidentWeight' | 'weight'> {
  const { selection, confidence, prototypeWeighting, labeledBatch, patch } = config;
  const { scheduled } = threshold;
  const hard = prototypeWeighting === 'hard';
  switch (partsOf(config).keeps) {
    case 'all':
      return { confidence: 'none', threshold: scheduled, hard, wanted: 'loss' };
    case 'uncertainty':
      return {
        confidence: 'given',
        scores: teacher.uncertainty(images),
        threshold: scheduled,
        hard,
        wanted: 'statistics',
      };
    case 'confidence':
      return {
        confidence: selection === 'all' ? 'none' : confidence,
        threshold: threshold.update(student, q, labeledBatch * sizeOf(patch)),
        invert: selection === 'high',
        hard,
        wanted: 'selection',
      };
  }
}
