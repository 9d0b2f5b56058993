/** Logs as dm-log-writes writes them, made by hand. */
export const SECTOR = 512;
const MAGIC = 0x6a736677736872n;

/** An entry of a log: a sector, then the data. */
export function entry(
  sector: number,
  sectors: number,
  flags: number,
  data: Buffer = Buffer.alloc(0),
  dataLength = 0,
) {
  const bytes = Buffer.alloc(SECTOR + Math.ceil(data.length / SECTOR) * SECTOR);
  for (const [at, value] of [sector, sectors, flags, dataLength].entries()) {
    bytes.writeBigUInt64LE(BigInt(value), at * 8);
  }
  data.copy(bytes, SECTOR);
  return bytes;
}
export const mark = (name: string) => entry(0, 0, 8, Buffer.from(name), name.length);
export const write = (sector: number, fill: number, flags = 0) =>
  entry(sector, 8, flags, Buffer.alloc(4096, fill));
export function logOf(entries: readonly Buffer[], count = entries.length): Buffer {
  const head = Buffer.alloc(SECTOR);
  head.writeBigUInt64LE(MAGIC, 0);
  head.writeBigUInt64LE(1n, 8);
  head.writeBigUInt64LE(BigInt(count), 16);
  head.writeUInt32LE(SECTOR, 24);
  return Buffer.concat([head, ...entries]);
}
