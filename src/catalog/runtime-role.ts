/** The rights of a role that works with the catalog's rows and cannot change its tables. */
import { type Database, inTransaction, MIGRATIONS_TABLE } from './database.ts';
import { toCatalogError } from './errors.ts';

/**
 * Gives the role of `runtimeUrl` what a worker and the command line need, and nothing more: rows of all tables,
 * but of the migrations' own tables only a look. To be called as the owner, after each migration.
 * @returns the role's name, or null when it is the owner itself
 */
export async function grantRuntimeRole(db: Database, runtimeUrl: string): Promise<string | null> {
  const role = decodeURIComponent(new URL(runtimeUrl).username);
  try {
    const { rows } = await db.raw('select current_user as owner, current_schema() as schema');
    const { owner, schema } = rows[0] as { owner: string; schema: string };
    if (role === '' || role === owner) return null;
    await inTransaction(db, 'catalog.commit.grantRuntimeRole', async trx => {
      await trx.raw('revoke create on schema ?? from ??', [schema, role]);
      await trx.raw('grant usage on schema ?? to ??', [schema, role]);
      await trx.raw('grant select, insert, update, delete on all tables in schema ?? to ??', [schema, role]);
      await trx.raw('grant usage, select on all sequences in schema ?? to ??', [schema, role]);
      for (const table of [MIGRATIONS_TABLE, `${MIGRATIONS_TABLE}_lock`]) {
        await trx.raw('revoke insert, update, delete on ?? from ??', [table, role]);
      }
    });
    return role;
  } catch (error) {
    throw toCatalogError(error);
  }
}
