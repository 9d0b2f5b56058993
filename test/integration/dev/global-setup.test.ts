import { Client } from 'pg';
import { expect, inject, test } from 'vitest';

test('the tests have a PostgreSQL and a Temporal server', async () => {
  const client = new Client({ connectionString: inject('postgresUrl') });
  await client.connect();
  const { rows } = await client.query('select current_user as name');
  await client.end();
  expect(rows).toEqual([{ name: 'postgres' }]);
  expect(inject('temporalAddress')).toMatch(/^127\.0\.0\.1:\d+$/);
});
