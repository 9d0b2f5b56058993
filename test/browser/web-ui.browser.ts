/** An operator's way through Temporal's Web UI, in a real browser. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Cockpit, startCockpit } from '../support/cockpit.ts';

/** With SCREENSHOTS_TO=docs/images the pictures of the documentation are taken anew. */
const PICTURES = process.env.SCREENSHOTS_TO;
const PROGRAMS = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser'];
const PATIENCE_MS = 60_000;
/** What the list of workflows shows once *Configure Columns* has been used. */
const COLUMNS = ['Status', 'Workflow ID', 'OffsiteState', 'OffsiteHost', 'OffsiteBehindSince'];

const PAGE_BESIDE_MENU = { x: 256, y: 64, width: 1184 };

let cockpit: Cockpit;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  const executablePath = PROGRAMS.find(path => path !== undefined && existsSync(path));
  if (executablePath === undefined) throw new Error('Chromium is missing: apt-get install -y chromium');
  cockpit = await startCockpit({ webUi: true });
  // Its pipe to this process closes when this process ends, however that comes, and the browser with it.
  browser = await chromium.launch({
    executablePath,
    args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
  });
  page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  page.setDefaultTimeout(PATIENCE_MS);
}, 300_000);

afterAll(async () => {
  await browser?.close();
  await cockpit?.sites.close();
});

const open = (path: string) =>
  page.goto(`${cockpit.sites.webUiUrl}/namespaces/default/workflows${path}`, {
    waitUntil: 'domcontentloaded',
  });

/** Opens a workflow by its id, as one does that has read of it, and one of its tabs. */
async function openTab(workflowId: string, tab: string): Promise<void> {
  await open(`/${encodeURIComponent(workflowId)}`);
  await page
    .getByRole('tab', { name: tab })
    .or(page.getByRole('link', { name: tab }))
    .first()
    .click();
}

const details = () => page.frameLocator('#user-metadata-current-details').locator('main');

async function untilShown(text: string | RegExp): Promise<void> {
  await page.getByText(text).first().waitFor();
}

async function picture(name: string, height: number): Promise<void> {
  if (PICTURES === undefined) return;
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`), clip: { ...PAGE_BESIDE_MENU, height } });
}

const untilDetails = async (...texts: (string | RegExp)[]): Promise<void> => {
  for (const text of texts) await details().getByText(text).first().waitFor();
};

test('a running schedule: by one click to its task, by another to a disk, and there the bar', async () => {
  const { taskUuid } = cockpit.running;
  await openTab('schedule/b/web1', 'User Metadata');
  await untilDetails('is running: host web1', /limits: at most 30m behind/, /behind since: /);
  await picture('web-ui-schedule-running', 700);

  const [taskPage] = await Promise.all([
    page.context().waitForEvent('page'),
    details().getByText(`task/${taskUuid}`).click(),
  ]);
  await taskPage.waitForURL(url => url.pathname.includes(encodeURIComponent(`task/${taskUuid}`)));
  await taskPage.close();

  await openTab(`task/${taskUuid}`, 'User Metadata');
  await untilDetails('sends 2 disks', 'incremental (on the same chain)');
  await picture('web-ui-task-running', 700);
  const [diskPage] = await Promise.all([
    page.context().waitForEvent('page'),
    details().getByText('vda', { exact: true }).click(),
  ]);
  await diskPage.waitForURL(url => url.pathname.includes(encodeURIComponent(`disk/${taskUuid}/1/vda`)));
  await diskPage.close();

  await openTab(`disk/${taskUuid}/1/vda`, 'Pending Activities');
  await untilShown('sendDisk');
  await untilShown(/█+░+ \d+ %, \d+\.\d MiB of 200 MiB/);
  await picture('web-ui-disk-progress', 590);
}, 180_000);

test('a task that tries again: how often, when next, and why', async () => {
  await openTab(`task/${cockpit.retrying.taskUuid}`, 'Pending Activities');
  await untilShown('querySyncInfo');
  await untilShown(/site b may not have host mail1\. Add the host under source\.replicaSites/);
  await untilShown('HostNotAllowed');
  // Below stand the stack traces.
  await picture('web-ui-task-retrying', 520);
}, 120_000);

test('a paused schedule: that it is, since when it is behind, and how it goes on', async () => {
  await openTab('schedule/b/db1', 'User Metadata');
  await untilDetails('is paused: host db1', 'offsite schedule resume db1', /behind since: /);
  await picture('web-ui-schedule-paused', 660);
}, 120_000);

test('the list: every schedule with its state, and what a host has running', async () => {
  await page.evaluate(
    columns =>
      localStorage.setItem(
        'namespace-workflow-table-columns',
        JSON.stringify({ default: columns.map(label => ({ label })) }),
      ),
    COLUMNS,
  );
  const list = (query: string) => open(`?query=${encodeURIComponent(query)}`);
  await list("`WorkflowType`='remoteBackupSchedule' AND `ExecutionStatus`='Running'");
  const row = (id: string) => page.getByRole('row').filter({ hasText: id });
  await row('schedule/b/db1').getByText('paused', { exact: true }).waitFor();
  for (const id of ['schedule/b/web1', 'schedule/b/mail1'])
    await row(id).getByText('running', { exact: true }).waitFor();
  await picture('web-ui-list', 340);
  await list("`OffsiteHost`='web1' AND `ExecutionStatus`='Running'");
  const { taskUuid } = cockpit.running;
  for (const id of ['schedule/b/web1', `task/${taskUuid}`, `disk/${taskUuid}/1/vdb`]) await row(id).waitFor();
  expect(await row('mail1').count()).toBe(0);
}, 120_000);
