/** What can be wrong with an image file. Each error names the file and the fault; docs/errors.md lists the codes. */
import { OffsiteError } from '../domain/errors.ts';

/** The root of all image errors. `path` is the file as the chain names it. */
export class ImageError extends OffsiteError {
  readonly path: string;
  readonly fault: string;

  constructor(code: string, path: string, fault: string, hint: string | null, options?: ErrorOptions) {
    super(code, `${path}: ${fault}`, hint, options);
    this.path = path;
    this.fault = fault;
  }
}

/** A feature that Offsite does not read: encryption, an external data file, another format or protocol. */
export class ImageUnsupportedError extends ImageError {
  constructor(path: string, fault: string, hint = 'Convert the image with qemu-img convert -O qcow2.') {
    super('ImageUnsupported', path, fault, hint);
  }
}

/** Bytes of the image contradict the format, or QEMU itself marked it as corrupt. */
export class ImageCorruptError extends ImageError {
  constructor(path: string, fault: string, options?: ErrorOptions) {
    const hint = `Look at it with qemu-img check ${shellQuote(path)}, or take it from a backup.`;
    super('ImageCorrupt', path, fault, hint, options);
  }
}

/** The file's real path lies under no configured image root. */
export class ImageOutsideRootsError extends ImageError {
  constructor(path: string, fault: string) {
    const hint = "Move the image under one of the site's image roots, or add its folder to imageRoots.";
    super('ImageOutsideRoots', path, fault, hint);
  }
}

/** No file is there (any more), or another file took its place while it was opened. */
export class ImageVanishedError extends ImageError {
  constructor(path: string, fault = 'the file does not exist', options?: ErrorOptions) {
    super(
      'ImageVanished',
      path,
      fault,
      'Bring the file back, or forget the snapshot that needs it.',
      options,
    );
  }
}

/** A directory, a device, a socket or a FIFO where a regular file must be. */
export class ImageNotRegularError extends ImageError {
  constructor(path: string, fault: string) {
    super('ImageNotRegular', path, fault, 'Only regular files are read; copy the disk into one.');
  }
}

/** The operating system refuses to open or read the file. */
export class ImageUnreadableError extends ImageError {
  constructor(path: string, fault: string, options?: ErrorOptions) {
    super(
      'ImageUnreadable',
      path,
      fault,
      "Let the worker's user read the file; look at the storage.",
      options,
    );
  }
}

/** More layers than {@link MAX_CHAIN_DEPTH}. */
export class ImageChainTooDeepError extends ImageError {
  constructor(path: string, maxDepth: number) {
    super(
      'ImageChainTooDeep',
      path,
      `the backing chain has more than ${maxDepth} layers`,
      'Shorten the chain with qemu-img commit or block-commit.',
    );
  }
}

/** A file is its own backing file, directly or through others. */
export class ImageChainLoopError extends ImageError {
  constructor(path: string, fault: string) {
    super('ImageChainLoop', path, fault, 'Give the overlay its true backing file with qemu-img rebase -u.');
  }
}

/** A backing file is named without a format. Probing would let a guest choose the format, so it is never done. */
export class BackingFormatMissingError extends ImageError {
  constructor(path: string, backingName: string) {
    super(
      'BackingFormatMissing',
      path,
      `names the backing file ${JSON.stringify(backingName)} without a format`,
      `Write the format down: qemu-img rebase -u -b ${shellQuote(backingName)} -F qcow2 ${shellQuote(path)} (-F raw for a raw one).`,
    );
  }
}

function shellQuote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
