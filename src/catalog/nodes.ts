/** The certificates that a site knows: its own nodes', and those of the receivers that it has pinned. */
import { effect } from '../lib/fault-points.ts';
import { type Database, guarded } from './database.ts';

export interface NodeRegistry {
  /** Notes the certificate of a node of this site; a new one replaces the old. */
  register(input: { node: string; fingerprint: string }): Promise<void>;
  /** @returns the pinned fingerprint, which is the given one if none was pinned before */
  pinReceiver(input: { replicaSite: string; endpoint: string; fingerprint: string }): Promise<string>;
  /** Forgets a pinned receiver, so that the next use pins anew. @returns whether there was one */
  unpinReceiver(input: { replicaSite: string; endpoint: string }): Promise<boolean>;
}

export function createNodeRegistry(db: Database): NodeRegistry {
  return guarded<NodeRegistry>({
    async register({ node, fingerprint }) {
      await effect('catalog.commit.registerNode', () =>
        db('nodes')
          .insert({ name: node, fingerprint })
          .onConflict('name')
          .merge({ fingerprint, registered_at: db.fn.now() }),
      );
    },

    async pinReceiver({ replicaSite, endpoint, fingerprint }) {
      const key = { replica_site: replicaSite, endpoint };
      await effect('source.commit.pinReceiver', () =>
        db('pinned_receivers')
          .insert({ ...key, fingerprint })
          .onConflict(['replica_site', 'endpoint'])
          .ignore(),
      );
      const pinned = await db('pinned_receivers').where(key).first<{ fingerprint: string }>('fingerprint');
      return pinned.fingerprint;
    },

    async unpinReceiver({ replicaSite, endpoint }) {
      const count = await effect('source.commit.unpinReceiver', () =>
        db('pinned_receivers').where({ replica_site: replicaSite, endpoint }).delete(),
      );
      return count > 0;
    },
  });
}
