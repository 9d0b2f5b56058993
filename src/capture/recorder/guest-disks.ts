/** Which disks a machine has, and whether each can be recorded: from the answer to `query-block`. */
import { IDENT } from '../../contract/names.ts';
import { DiskNotFoundError, DiskUnsupportedError } from './errors.ts';

/** A disk of the machine, as it is before the take-over. */
export interface GuestDisk {
  readonly disk: string;
  /** Its device's id, empty when it has none. */
  readonly device: string;
  /** The top node beneath the device. */
  readonly node: string;
  /** The file that the guest writes to now; absolute. */
  readonly path: string;
  readonly virtualSizeBytes: number;
}

/** Names a disk of the machine: its device, qdev id or a node of its chain. */
export interface DiskMapping {
  readonly disk: string;
  readonly name: string;
}

interface ImageInfo {
  readonly filename?: string;
  readonly format?: string;
  readonly 'virtual-size'?: number;
}

interface BlockInfo {
  readonly device?: string;
  readonly qdev?: string;
  readonly removable?: boolean;
  readonly inserted?: {
    readonly 'node-name'?: string;
    readonly drv?: string;
    readonly ro?: boolean;
    readonly image?: ImageInfo;
  };
}

/**
 * @param blocks what `query-block` answered
 * @param mapping the disks to record; empty for all that are neither removable nor read-only
 * @throws {DiskNotFoundError} | {@link DiskUnsupportedError}
 */
export function findGuestDisks(blocks: unknown, mapping: readonly DiskMapping[]): readonly GuestDisk[] {
  const all = (Array.isArray(blocks) ? (blocks as BlockInfo[]) : []).filter(
    block => block.inserted !== undefined,
  );
  const names = all.map(block => nameOf(block)).filter(name => name !== '');
  if (mapping.length > 0) {
    const chosen = mapping.map(({ disk, name }) => {
      const found = all.find(block => isNamed(block, name));
      if (found === undefined) throw new DiskNotFoundError(name, names);
      return toDisk(disk, found);
    });
    return assertDistinct(chosen);
  }
  const usual = all.filter(({ removable, inserted }) => removable !== true && inserted?.ro !== true);
  if (usual.length === 0) throw new DiskNotFoundError('that can be recorded', names);
  return assertDistinct(usual.map(block => toDisk(identOf(block), block)));
}

function assertDistinct(disks: readonly GuestDisk[]): readonly GuestDisk[] {
  for (const [index, { disk, node }] of disks.entries()) {
    const twin = disks.slice(0, index).find(other => other.disk === disk || other.node === node);
    if (twin !== undefined) {
      throw new DiskUnsupportedError(
        disk,
        `it is there twice (${twin.node}, ${node})`,
        'Name each by --disk.',
      );
    }
  }
  return disks;
}

/** `vda` of `/machine/peripheral/vda/virtio-backend`; empty when nobody gave the device an id. */
const qdevId = (qdev = ''): string =>
  /^\/machine\/peripheral\/([^/]+)/.exec(qdev)?.[1] ?? (qdev.startsWith('/') ? '' : qdev);

const nameOf = ({ device = '', qdev, inserted }: BlockInfo): string =>
  device !== '' ? device : qdevId(qdev) || (inserted?.['node-name'] ?? '');

const isNamed = ({ device, qdev, inserted }: BlockInfo, name: string): boolean =>
  name !== '' && [device, qdev, qdevId(qdev), inserted?.['node-name']].includes(name);

function identOf(block: BlockInfo): string {
  const name = nameOf(block);
  if (IDENT.test(name)) return name;
  throw new DiskUnsupportedError(
    name,
    'its name is no ident of a disk',
    `Give it one, such as --disk vda=${name}, and name all others to be recorded as well.`,
  );
}

const SNAPSHOT_HINT = 'Put a qcow2 overlay over it first (an external snapshot), or convert the image.';

function toDisk(disk: string, { inserted, removable, qdev, device }: BlockInfo): GuestDisk {
  const { image = {}, ro, drv } = inserted ?? {};
  const node = inserted?.['node-name'] ?? '';
  if (removable === true) throw new DiskUnsupportedError(disk, 'it is removable', 'Leave it out.');
  if (ro === true) throw new DiskUnsupportedError(disk, 'it is read-only', 'Leave it out: it never changes.');
  if (drv !== 'qcow2' || image.format !== 'qcow2') {
    throw new DiskUnsupportedError(disk, `its format is ${drv ?? 'unknown'}, not qcow2`, SNAPSHOT_HINT);
  }
  const virtualSizeBytes = image['virtual-size'] ?? 0;
  if (!Number.isSafeInteger(virtualSizeBytes) || virtualSizeBytes <= 0) {
    throw new DiskUnsupportedError(disk, 'its size is unknown', 'Look at it with query-block.');
  }
  return {
    disk,
    device: qdevId(qdev) || (device ?? ''),
    node,
    path: pathOf(disk, image.filename ?? ''),
    virtualSizeBytes,
  };
}

/** QEMU writes the name of a node that was put together by hand as `json:`. */
function pathOf(disk: string, filename: string): string {
  const path = filename.startsWith('json:') ? pathInJson(filename.slice('json:'.length)) : filename;
  if (path?.startsWith('/')) return path;
  throw new DiskUnsupportedError(
    disk,
    `its image is ${JSON.stringify(filename)}, not an absolute path`,
    'Start the machine with the absolute path of an image file.',
  );
}

function pathInJson(text: string): string | null {
  try {
    const value = JSON.parse(text) as {
      file?: { driver?: unknown; filename?: unknown };
      'file.filename'?: unknown;
    };
    const path = value.file?.filename ?? value['file.filename'];
    const driver = value.file?.driver ?? 'file';
    return driver === 'file' && typeof path === 'string' ? path : null;
  } catch {
    return null;
  }
}
