/** A task in a few lines of markdown, for the Web UI. */
import { workflowInfo } from '@temporalio/workflow';
import { diskWorkflowId, scheduleWorkflowId } from '../contract/names.ts';
import type { ScheduleSpec } from '../contract/schedule.ts';
import type { SyncAnswer, SyncTarget } from '../contract/sync.ts';
import * as markdown from './markdown.ts';

export interface ToldTask {
  readonly spec: ScheduleSpec;
  readonly taskUuid: string;
  /** Null before its row is made. */
  readonly generation: number | null;
  readonly plan: number;
  /** What it does, after its name. */
  readonly what: string;
  readonly isEnded: boolean;
  readonly answer: SyncAnswer | null;
  /** The disks that are whole at B. */
  readonly sealed: readonly string[];
}

export function taskDetails(told: ToldTask): string {
  const { spec, generation, plan, what, isEnded, answer } = told;
  const { namespace } = workflowInfo();
  const number = generation === null ? '' : `, task ${generation}${plan > 1 ? `, plan ${plan}` : ''}`;
  const since = isEnded ? '' : `, since ${markdown.time(Date.now())}`;
  return [
    `**${spec.name}**${number}, ${markdown.plain(what)}${since}`,
    '',
    ...(isEnded
      ? []
      : [`- what it waits for, and why it tries again: ${markdown.pendingLink()}${andOf(answer)}`]),
    ...(answer?.target == null ? [] : diskLines(told, answer.target, namespace)),
    ...(answer === null ? [] : answerLines(answer, spec)),
    `- schedule: ${markdown.workflowLink(namespace, scheduleWorkflowId(spec.replicaSite, spec.name))}`,
  ].join('\n');
}

const andOf = (answer: SyncAnswer | null): string =>
  answer?.target == null ? '' : ', and those of its disks';

/** Columns of a table would touch each other there. */
function diskLines(
  { taskUuid, plan, sealed, isEnded }: ToldTask,
  target: SyncTarget,
  namespace: string,
): string[] {
  return target.disks.map(({ disk, method, reason }) => {
    const link = markdown.workflowLink(namespace, diskWorkflowId(taskUuid, plan, disk), disk);
    const now = sealed.includes(disk) ? ': is whole' : isEnded ? '' : ': is sent';
    return `- ${link}${now}, ${method} (${markdown.plain(reason)})`;
  });
}

function answerLines(
  { target, reason, skippedCount, warnings }: SyncAnswer,
  { host }: ScheduleSpec,
): string[] {
  const taken = target === null ? '' : ` of ${host}, taken ${markdown.time(target.takenAtMs)}`;
  return [
    ...(target === null ? [] : [`- host snapshot: \`${target.hostSnapshot}\`${taken}`]),
    `- chosen because: ${markdown.plain(reason)}`,
    ...(skippedCount === 0 ? [] : [`- host snapshots passed over: ${skippedCount}`]),
    ...warnings.map(warning => `- ⚠ ${markdown.plain(warning)}`),
  ];
}
