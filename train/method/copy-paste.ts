// Bidirectional copy-paste (Bai et al. 2023, CVPR): the student learns from images that are labelled in one region and have the teacher's
// classes in the other. Each item shows, in a box, an item of the other kind; in the pre-training, labelled items show each other.
import { add, argmax, concat, mul, noGrad, reshape, slice, type Tensor, tensor } from '../../engine/index.js';
import type { LossTerms } from './gradients.js';
import { type ImageLosses, imageLosses } from './losses.js';
import type { Teacher } from './teacher.js';
import type { Views } from './views.js';

/** A loss, its terms for the log (CE, Dice, what λ multiplies) and each as it enters the loss. */
export interface PastedLosses {
  readonly loss: Tensor;
  readonly logged: readonly Tensor[];
  readonly apart: LossTerms;
}

/** A batch, its labelled items first, and what sees it. */
export interface PastedBatch {
  readonly images: Tensor;
  readonly labels: Tensor;
  readonly labeledItems: number;
  readonly views: Views;
  readonly diceClasses: 'all' | 'foreground';
  /** The student's logits of images; of the two kinds, each normalised apart. */
  student(images: Tensor): Tensor;
}

/** What a pixel is labelled with that counts for nothing. */
const ignored = 255;

/** Cross-entropy and Dice of a loss as one tensor [2]. */
const termsOf = ({ terms }: ImageLosses): Tensor =>
  concat(
    terms.map((x) => reshape(x, [x.size])),
    0,
  );

/**
 * ℒ = Σ over both directions of ½ (CE + Dice) over pixels of labelled items + λ · the same over pixels of unlabelled ones, whose labels
 * are the teacher's classes. One direction has the labelled items with boxes of unlabelled ones, the other the reverse; each of the four
 * regions has a mean and a Dice loss of its own (BCP's `mix_loss`). `weight` is λ, one number.
 */
export function pastedLosses(batch: PastedBatch, teacher: Teacher, weight: Tensor): PastedLosses {
  const { images, labels, labeledItems: labeled, views, diceClasses } = batch;
  const { gpu } = images;
  const unlabeled = images.shape[0]! - labeled;
  const nobody = (items: number) => tensor(gpu, ignored, [items, ...labels.shape.slice(1)], { dtype: 'u8' });
  const guessed = noGrad(gpu, () => argmax(teacher.predict(images).logits));
  // Of each pixel one of the two is its class, and the other is ignored: by the kind of the item that it comes from.
  const truth = views.mix(concat([slice(labels, 0, 0, labeled), nobody(unlabeled)], 0));
  const pseudo = views.mix(concat([nobody(labeled), guessed], 0));
  const logits = batch.student(views.strong(images));

  const direction = (first: number, items: number) => {
    const some = slice(logits, 0, first, items);
    const of = (classes: Tensor) =>
      imageLosses(some, { labels: slice(classes, 0, first, items), labeledItems: items, diceClasses });
    return { known: of(truth), guess: of(pseudo) };
  };
  const [outward, inward] = [direction(0, labeled), direction(labeled, unlabeled)];
  const supervised = add(outward.known.loss, inward.known.loss);
  const unsupervised = add(outward.guess.loss, inward.guess.loss);
  const consistency = mul(unsupervised, weight);
  const terms = noGrad(gpu, () => mul(add(termsOf(outward.known), termsOf(inward.known)), 0.5));
  return { loss: add(supervised, consistency), logged: [terms, unsupervised], apart: { supervised, consistency } };
}

/** The pre-training: ½ (CE + Dice) of labelled items with boxes of each other; there is no teacher yet. */
export function pretrainingLosses(batch: PastedBatch): PastedLosses {
  const { images, labels, labeledItems, views, student, diceClasses } = batch;
  const own = (x: Tensor): Tensor => slice(x, 0, 0, labeledItems);
  const mixed = views.mix(own(labels), 0);
  const losses = imageLosses(student(views.strong(own(images))), { labels: mixed, labeledItems, diceClasses });
  const consistency = mul(losses.loss, 0);
  return { loss: losses.loss, logged: [...losses.terms, consistency], apart: { supervised: losses.loss, consistency } };
}
