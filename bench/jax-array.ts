// Arrays of jax-js, which its types make hard to name.
import type * as Jax from '@jax-js/jax';

export type Values = InstanceType<typeof Jax.Array>;

/** A JavaScript array as a jax-js one of a shape. */
export const jaxArray = ({ numpy: np }: typeof Jax, values: Float32Array, shape: readonly number[]): Values =>
  np.array(values as never).reshape([...shape]);
