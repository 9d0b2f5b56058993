/** Images that came by truck: looked at as hostile input, registered, and from then on only ever read. */
import { realpath } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { createSeedRows, type Seed, type SeedInput } from '../catalog/replica-seeds.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { OffsiteError } from '../domain/errors.ts';
import { openChain } from '../images/chain.ts';
import { assertNotInUse } from '../images/in-use.ts';
import { openCatalog } from './open-catalog.ts';
import { replicaDirectoryOf } from './replica-directory.ts';

/** The folders below which images that an operator brings may lie. */
export const seedRootsOf = (config: SiteConfig): readonly string[] =>
  config.replica?.seedRoots ?? [join(config.dataDir, 'seeds')];

/** A format is never guessed from content: a raw disk may begin like an image of its guest's choice. */
class SeedFormatUnknownError extends OffsiteError {
  constructor(path: string) {
    super(
      'SeedFormatUnknown',
      `the name of ${path} does not tell its format`,
      'Give --format qcow2 or --format raw; it is never guessed from the content.',
    );
  }
}

/** What lies there belongs to the replicas, and strays are removed. */
class SeedAmongReplicasError extends OffsiteError {
  constructor(path: string, roots: readonly string[]) {
    super(
      'SeedAmongReplicas',
      `${path} lies in the folder of the replicas, where whatever the catalog does not know is removed`,
      `Move it below ${roots.join(' or ')}, or list its folder under replica.seedRoots.`,
    );
  }
}

interface SeedRequest {
  readonly host: string;
  readonly disks: readonly { readonly disk: string; readonly path: string }[];
  /** Null for what the file's suffix says. */
  readonly format: 'qcow2' | 'raw' | null;
}

/** Opens catalog B. @throws {DatabaseUnreachableError} */
export async function openReplicaSeeds(config: SiteConfig) {
  const db = await openCatalog(config, 'replica');
  const rows = createSeedRows(db);
  const roots = seedRootsOf(config);
  return {
    async register({ host, disks, format }: SeedRequest) {
      const seeds: SeedInput[] = [];
      for (const { disk, path } of disks) {
        seeds.push(await inspect(disk, path, format ?? formatOf(path), roots, replicaDirectoryOf(config)));
      }
      return (await rows.registerSeeds({ host, node: config.node, seeds })).map(toListed);
    },
    list: async (filter: { host: string | null }) => (await rows.listSeeds(filter)).map(toListed),
    forget: async (seed: { host: string; disk: string }) => toListed(await rows.forgetSeed(seed)),
    close: () => db.destroy(),
  };
}

/** @throws {SeedFormatUnknownError} */
function formatOf(path: string): 'qcow2' | 'raw' {
  if (path.endsWith('.qcow2')) return 'qcow2';
  if (path.endsWith('.raw')) return 'raw';
  throw new SeedFormatUnknownError(path);
}

/** Opens the whole chain: what cannot be read is refused here and not at the first run. @throws {ImageError} */
async function inspect(
  disk: string,
  path: string,
  format: 'qcow2' | 'raw',
  roots: readonly string[],
  replicaRoot: string,
): Promise<SeedInput> {
  const replicas = await realpath(replicaRoot).catch(() => replicaRoot);
  const chain = await openChain(path, { imageRoots: roots, topFormat: format });
  try {
    for (const layer of chain.layers) {
      if (layer.realPath.startsWith(replicas + sep)) throw new SeedAmongReplicasError(path, roots);
      await assertNotInUse(layer);
    }
    const { realPath = path } = chain.layers[0] ?? {};
    return { disk, path: realPath, format, virtualSizeBytes: chain.virtualSizeBytes };
  } finally {
    await chain.close();
  }
}

const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

const toListed = (seed: Seed) => ({
  host: seed.host,
  disk: seed.disk,
  node: seed.node,
  path: seed.path,
  format: seed.format,
  virtualSizeBytes: seed.virtualSizeBytes,
  registeredAt: new Date(seed.registeredAtMs).toISOString(),
  usedAt: iso(seed.usedAtMs),
  usedByPoint: seed.usedBySnapshot,
});
