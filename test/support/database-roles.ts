/** A database whose tables belong to one role, and a second role that may only work with their rows. */
import { randomUUID } from 'node:crypto';
import { Client } from 'pg';

export interface TwoRoles {
  readonly ownerUrl: string;
  readonly runtimeUrl: string;
  readonly passwords: readonly [owner: string, runtime: string];
}

/**
 * Makes both roles, and the database for them unless it is there.
 * @param adminUrl of the superuser, whose database is left alone
 */
export async function createRoles(adminUrl: string, database: string): Promise<TwoRoles> {
  const suffix = randomUUID().slice(0, 8);
  const roles = { owner: `owner_${suffix}`, runtime: `worker_${suffix}` };
  const passwords = [`0wner-${randomUUID()}`, `w0rker-${randomUUID()}`] as const;
  await asAdmin(adminUrl, [
    `create role ${roles.owner} login password '${passwords[0]}'`,
    `create role ${roles.runtime} login password '${passwords[1]}'`,
  ]);
  const found = await asAdmin(adminUrl, [`select 1 from pg_database where datname = '${database}'`]);
  await asAdmin(adminUrl, [
    found > 0
      ? `alter database ${database} owner to ${roles.owner}`
      : `create database ${database} owner ${roles.owner}`,
  ]);
  const url = (role: string, password: string): string => {
    const made = new URL(adminUrl);
    made.username = role;
    made.password = password;
    made.pathname = `/${database}`;
    return made.href;
  };
  return {
    ownerUrl: url(roles.owner, passwords[0]),
    runtimeUrl: url(roles.runtime, passwords[1]),
    passwords,
  };
}

/** @returns the rows of the last statement */
async function asAdmin(url: string, statements: readonly string[]): Promise<number> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    let rows = 0;
    for (const statement of statements) rows = (await client.query(statement)).rowCount ?? 0;
    return rows;
  } finally {
    await client.end();
  }
}
