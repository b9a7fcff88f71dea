/** Addresses of a store that all budgets share: what the chart takes, the operator takes, and the other way round. */
export const STORE_ADDRESSES: readonly { readonly address: string; readonly isTaken: boolean }[] = [
  ...[
    'redis://redis.data.svc:6379',
    'redis://redis.data.svc.cluster.local.:6379',
    'rediss://redis-1.data.svc.cluster.local:65535',
    'redis://my_redis',
    'redis://10.0.0.7:1',
    'redis://[fd00::7]:6379',
  ].map((address) => ({ address, isTaken: true })),
  ...[
    'redis.data:6379',
    'redis://me@redis:6379',
    'redis://:secret@redis:6379',
    'redis://a:6379,b:6379',
    'redis+cluster://a:6379',
    'redis://h:0',
    'redis://h:65536',
    'redis://h:99999',
    'redis://h:',
    'redis://h:6379?x=1',
    'redis://h:6379#x',
    'redis://h:6379/1',
    'redis://h%41:6379',
    'redis://-h:6379',
    'redis://fd00::7:6379',
  ].map((address) => ({ address, isTaken: false })),
]
