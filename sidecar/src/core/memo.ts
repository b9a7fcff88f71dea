/** What is worked out once for an object, and forgotten with it. */
export function memo<Key extends object, Value>(compute: (key: Key) => Value): (key: Key) => Value {
  const known = new WeakMap<Key, { readonly value: Value }>()
  return (key) => {
    const seen = known.get(key) ?? { value: compute(key) }
    known.set(key, seen)
    return seen.value
  }
}

/** The same for two of them. */
export function memoOfTwo<One extends object, Other extends object, Value>(
  compute: (one: One, other: Other) => Value,
): (one: One, other: Other) => Value {
  const ofOne = memo((one: One) => memo((other: Other) => compute(one, other)))
  return (one, other) => ofOne(one)(other)
}
