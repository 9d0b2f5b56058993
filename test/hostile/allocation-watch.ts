/** Sees every buffer that is asked for while a case runs, so that a length from hostile input cannot hide. */

export interface AllocationWatch {
  /** Of the case that runs, or ran last. */
  readonly largestBytes: number;
  readonly totalBytes: number;
  reset(): void;
  remove(): void;
}

type Maker = (size: number, ...more: never[]) => Buffer;

/** Puts itself before Buffer's makers. One at a time. */
export function watchAllocations(): AllocationWatch {
  const seen = { largestBytes: 0, totalBytes: 0 };
  const note = (sizeBytes: number): void => {
    seen.totalBytes += sizeBytes;
    if (sizeBytes > seen.largestBytes) seen.largestBytes = sizeBytes;
  };
  const { alloc, allocUnsafe, allocUnsafeSlow, concat } = Buffer;
  const noted = (make: Maker): Maker => {
    return (size, ...more) => {
      note(size);
      return make.call(Buffer, size, ...more);
    };
  };
  Buffer.alloc = noted(alloc as Maker) as typeof alloc;
  Buffer.allocUnsafe = noted(allocUnsafe) as typeof allocUnsafe;
  Buffer.allocUnsafeSlow = noted(allocUnsafeSlow) as typeof allocUnsafeSlow;
  Buffer.concat = ((list: readonly Uint8Array[], total?: number) => {
    note(total ?? list.reduce((sum, part) => sum + part.length, 0));
    return concat.call(Buffer, list, total);
  }) as typeof concat;
  return {
    get largestBytes() {
      return seen.largestBytes;
    },
    get totalBytes() {
      return seen.totalBytes;
    },
    reset() {
      seen.largestBytes = 0;
      seen.totalBytes = 0;
    },
    remove() {
      Object.assign(Buffer, { alloc, allocUnsafe, allocUnsafeSlow, concat });
    },
  };
}
