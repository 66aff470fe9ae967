// Rows of ONNX's table: what works element by element.
import type { Tensor } from '../../engine/index.js';
import { type Compute, dtypeOf, type Node, type Rows, w } from './node.js';
import { notOffered, typeNamed } from './vectors.js';

const unary =
  (f: (x: Tensor) => Tensor): Compute =>
  (n) =>
    f(n.x());
const binary =
  (f: (a: Tensor, b: Tensor) => Tensor): Compute =>
  (n) =>
    f(n.x(0), n.x(1));
const arithmetic =
  (f: (a: Tensor, b: Tensor) => Tensor): Compute =>
  (n) =>
    f(n.operand(0), n.operand(1));
/** Of any number of inputs, from left to right. */
const folded = (n: Node, f: (a: Tensor, b: Tensor) => Tensor): Tensor => n.inputs.map((_, i) => n.operand(i)).reduce(f);

/** Whether an ONNX type has fractions. */
const isFloat = (type: string): boolean => ['float', 'double', 'float16'].includes(type);

/** a to the power b in floats, whatever types they have. */
function power(n: Node): Tensor {
  const [a, b] = [n.inputs[0]!, n.inputs[1]!].map(({ type }) => isFloat(type)) as [boolean, boolean];
  const float = n.inputs.map((input, i) => (isFloat(input!.type) ? n.x(i) : w.cast(n.x(i), 'f32')));
  const y = w.pow(float[0]!, float[1]!);
  return a ? y : w.cast(b ? y : w.round(y), 'i32');
}

/** x within limits, which may be left out. */
function clip(n: Node): Tensor {
  const [low, high] = [n.given(1)?.[0], n.given(2)?.[0]];
  if (isFloat(n.inputs[0]!.type)) {
    return w.clamp(n.x(), low ?? Number.NEGATIVE_INFINITY, high ?? Number.POSITIVE_INFINITY);
  }
  const above = low === undefined ? n.x() : w.maximum(n.x(), low);
  return high === undefined ? above : w.minimum(above, high);
}

const exponential = (x: Tensor): Tensor => w.sub(w.exp(x), 1);

export const elementwise: Rows = {
  Abs: ['`abs(x)`', unary((x) => w.abs(x))],
  Acos: 'no inverse trigonometric functions',
  Acosh: ['`log(add(x, sqrt(sub(square(x), 1))))`', unary((x) => w.log(w.add(x, w.sqrt(w.sub(w.square(x), 1)))))],
  Add: ['`add(a, b)`', arithmetic((a, b) => w.add(a, b))],
  And: ['`where(a, b, 0)`', binary((a, b) => w.where(a, b, 0))],
  Asin: 'no inverse trigonometric functions',
  Asinh: [
    '`log(add(x, sqrt(add(square(x), 1))))`; near 0 only to 10⁻⁷ absolute',
    unary((x) => w.log(w.add(x, w.sqrt(w.add(w.square(x), 1))))),
  ],
  Atan: 'no inverse trigonometric functions',
  Atanh: [
    '`mul(log(div(add(x, 1), sub(1, x))), 0.5)`; near 0 only to 10⁻⁷ absolute',
    unary((x) => w.mul(w.log(w.div(w.add(x, 1), w.sub(1, x))), 0.5)),
  ],
  BitShift: [
    '`shiftLeft(a, b)`, `shiftRight(a, b)`',
    (n) => w[n.text('direction', 'LEFT') === 'LEFT' ? 'shiftLeft' : 'shiftRight'](n.operand(0), n.operand(1)),
  ],
  Cast: [
    '`cast(x, dtype)`',
    (n) => w.cast(n.x(), dtypeOf[typeNamed(n.number('to', 0))] ?? notOffered(`type ${typeNamed(n.number('to', 0))}`)),
  ],
  CastLike: ['`cast(x, y.dtype)`', (n) => w.cast(n.x(0), n.x(1).dtype)],
  Ceil: ['`ceil(x)`', unary((x) => w.ceil(x))],
  Celu: [
    '`where(greater(x, 0), x, mul(sub(exp(div(x, α)), 1), α))`',
    (n) => {
      const [x, alpha] = [n.x(), n.number('alpha', 1)];
      return w.where(w.greater(x, 0), x, w.mul(exponential(w.div(x, alpha)), alpha));
    },
  ],
  Clip: ['`clamp(x, low, high)`; of integers `minimum(maximum(x, low), high)`', clip],
  Cos: ['`cos(x)`', unary((x) => w.cos(x))],
  Cosh: ['`mul(add(exp(x), exp(neg(x))), 0.5)`', unary((x) => w.mul(w.add(w.exp(x), w.exp(w.neg(x))), 0.5))],
  Div: ['`div(a, b)`', arithmetic((a, b) => w.div(a, b))],
  Elu: [
    '`where(greater(x, 0), x, mul(sub(exp(x), 1), α))`',
    (n) => w.where(w.greater(n.x(), 0), n.x(), w.mul(exponential(n.x()), n.number('alpha', 1))),
  ],
  Equal: ['`equal(a, b)`', binary((a, b) => w.equal(a, b))],
  Erf: ['`erf(x)`', unary((x) => w.erf(x))],
  Exp: ['`exp(x)`', unary((x) => w.exp(x))],
  Floor: ['`floor(x)`', unary((x) => w.floor(x))],
  Greater: ['`greater(a, b)`', binary((a, b) => w.greater(a, b))],
  GreaterOrEqual: ['`greaterEqual(a, b)`', binary((a, b) => w.greaterEqual(a, b))],
  HardSigmoid: [
    '`clamp(add(mul(x, α), β), 0, 1)`',
    (n) => w.clamp(w.add(w.mul(n.x(), n.number('alpha', 0.2)), n.number('beta', 0.5)), 0, 1),
  ],
  HardSwish: [
    '`mul(x, clamp(add(mul(x, 1 / 6), 0.5), 0, 1))`',
    unary((x) => w.mul(x, w.clamp(w.add(w.mul(x, 1 / 6), 0.5), 0, 1))),
  ],
  Identity: ['`detach(x)`, or x itself', unary((x) => w.detach(x))],
  IsInf: [
    '`equal(abs(x), Infinity)`, or of one sign `equal(x, Infinity)`',
    (n) => {
      const [negative, positive] = [n.number('detect_negative', 1), n.number('detect_positive', 1)];
      if (negative && positive) return w.equal(w.abs(n.x()), Number.POSITIVE_INFINITY);
      return w.equal(n.x(), positive ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY);
    },
  ],
  IsNaN: ['`notEqual(x, x)`', unary((x) => w.notEqual(x, x))],
  LeakyRelu: ['`leakyRelu(x, slope)`', (n) => w.leakyRelu(n.x(), n.number('alpha', 0.01))],
  Less: ['`less(a, b)`', binary((a, b) => w.less(a, b))],
  LessOrEqual: ['`lessEqual(a, b)`', binary((a, b) => w.lessEqual(a, b))],
  Log: ['`log(x)`', unary((x) => w.log(x))],
  Max: ['`maximum(a, b)`, of more in turn', (n) => folded(n, (a, b) => w.maximum(a, b))],
  Mean: [
    '`div(add(a, b), 2)`, of more likewise',
    (n) =>
      n.inputs.length === 1
        ? n.x()
        : w.div(
            folded(n, (a, b) => w.add(a, b)),
            n.inputs.length,
          ),
  ],
  Min: ['`minimum(a, b)`, of more in turn', (n) => folded(n, (a, b) => w.minimum(a, b))],
  Mod: [
    'of integers `remainder(a, b)`; with the sign of b `remainder(add(remainder(a, b), b), b)`',
    (n) => {
      if (isFloat(n.inputs[0]!.type)) notOffered('remainders of floats');
      const [a, b] = [n.operand(0), n.operand(1)];
      const rest = w.remainder(a, b);
      return n.number('fmod', 0) || a.dtype === 'u32' ? rest : w.remainder(w.add(rest, b), b);
    },
  ],
  Mul: ['`mul(a, b)`', arithmetic((a, b) => w.mul(a, b))],
  Neg: ['`neg(x)`', unary((x) => w.neg(x))],
  Not: ['`equal(x, 0)`', unary((x) => w.equal(x, 0))],
  Or: ['`where(a, 1, b)`', binary((a, b) => w.where(a, 1, b))],
  PRelu: ['`where(less(x, 0), mul(x, slopes), x)`', binary((x, slopes) => w.where(w.less(x, 0), w.mul(x, slopes), x))],
  Pow: ['`pow(a, b)`; integers through `cast` to f32 and back, rounded', power],
  Reciprocal: ['`reciprocal(x)`', unary((x) => w.reciprocal(x))],
  Relu: ['`relu(x)`', unary((x) => w.relu(x))],
  Round: ['`round(x)`', unary((x) => w.round(x))],
  Selu: [
    '`mul(where(greater(x, 0), x, mul(sub(exp(x), 1), α)), γ)`',
    (n) => {
      const [x, alpha, gamma] = [n.x(), n.number('alpha', 1.6732632), n.number('gamma', 1.050701)];
      return w.mul(w.where(w.greater(x, 0), x, w.mul(exponential(x), alpha)), gamma);
    },
  ],
  Shrink: [
    '`where(less(x, −λ), add(x, bias), where(greater(x, λ), sub(x, bias), 0))`',
    (n) => {
      const [x, limit, bias] = [n.x(), n.number('lambd', 0.5), n.number('bias', 0)];
      return w.where(w.less(x, -limit), w.add(x, bias), w.where(w.greater(x, limit), w.sub(x, bias), 0));
    },
  ],
  Sigmoid: ['`sigmoid(x)`', unary((x) => w.sigmoid(x))],
  Sign: ['`sign(x)`', unary((x) => w.sign(x))],
  Sin: ['`sin(x)`', unary((x) => w.sin(x))],
  Sinh: [
    '`mul(sub(exp(x), exp(neg(x))), 0.5)`; near 0 only to 10⁻⁷ absolute',
    unary((x) => w.mul(w.sub(w.exp(x), w.exp(w.neg(x))), 0.5)),
  ],
  Softplus: ['`softplus(x)`', unary((x) => w.softplus(x))],
  Softsign: ['`div(x, add(abs(x), 1))`', unary((x) => w.div(x, w.add(w.abs(x), 1)))],
  Sqrt: ['`sqrt(x)`', unary((x) => w.sqrt(x))],
  Sub: ['`sub(a, b)`', arithmetic((a, b) => w.sub(a, b))],
  Sum: ['`add(a, b)`, of more in turn', (n) => folded(n, (a, b) => w.add(a, b))],
  Tan: ['`div(sin(x), cos(x))`', unary((x) => w.div(w.sin(x), w.cos(x)))],
  Tanh: ['`tanh(x)`', unary((x) => w.tanh(x))],
  ThresholdedRelu: ['`where(greater(x, α), x, 0)`', (n) => w.where(w.greater(n.x(), n.number('alpha', 1)), n.x(), 0)],
  Where: ['`where(condition, a, b)`', (n) => w.where(n.x(0), n.x(1), n.x(2))],
  Xor: ['`notEqual(a, b)`', binary((a, b) => w.notEqual(a, b))],
};
