// The curves of a training, and the line below them.
import { createChart } from './chart.js';
import { element } from './elements.js';
import type { Learner } from './learn.js';

export interface LossCharts {
  add(values: Record<string, number>, learner: Learner): void;
  /** Empties both for a new training. */
  clear(): void;
}

export function createLossCharts(): LossCharts {
  const both = [
    createChart(element('chart-labelled'), 'Labelled slices', [
      { key: 'loss', name: 'loss' },
      { key: 'ce', name: 'cross-entropy' },
      { key: 'dice', name: 'Dice loss' },
    ]),
    createChart(element('chart-unlabelled'), 'Unlabelled pixels that the student is unsure of', [
      { key: 'kept', name: 'their share' },
      { key: 'consistency', name: 'consistency' },
      { key: 'separation', name: 'separation' },
    ]),
  ];
  const text = element('learning');
  return {
    add(values, { iteration, trainer, method, heldUp }) {
      for (const chart of both) chart.add(values);
      const { iterations } = trainer.config;
      element<HTMLProgressElement>('progress').value = iteration / iterations;
      const how = method === 'lccs' ? '' : ', supervised since every slice is labelled';
      text.textContent = `Step ${iteration} of ${iterations}${how}. The page was held up for ${Math.ceil(heldUp.once)} ms at the start, and for at most ${Math.ceil(heldUp.step)} ms by a step.`;
      element('chart-unlabelled').hidden = method !== 'lccs';
    },
    clear() {
      for (const chart of both) chart.clear();
      element('charts').hidden = text.hidden = false;
      text.textContent = 'The step is recorded and compiled …';
    },
  };
}
