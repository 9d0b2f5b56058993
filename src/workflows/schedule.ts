/** What the parts of the schedule's workflow share: its state, and what it tells. */
import { setCurrentDetails, workflowInfo } from '@temporalio/workflow';
import type { ScheduleSpec, ScheduleState, ScheduleStatus } from '../contract/schedule.ts';
import * as life from '../domain/schedule-state.ts';
import { type ScheduleActivity, statusOf } from '../domain/schedule-status.ts';
import { replicaCatalog } from './activity-proxies.ts';
import { scheduleDetails } from './schedule-details.ts';
import { ScheduleSearch } from './schedule-search.ts';

const AT_REST: ScheduleActivity = { running: null };

export class Schedule {
  readonly spec: ScheduleSpec;
  #state: ScheduleState;
  #activity = AT_REST;
  #tasks = 0;
  readonly #search = new ScheduleSearch();

  constructor(spec: ScheduleSpec, state: ScheduleState) {
    this.spec = spec;
    this.#state = life.completeState(state);
    this.#tell();
  }

  get state(): ScheduleState {
    return this.#state;
  }

  get isRunning(): boolean {
    return this.#activity.running !== null;
  }

  status(): ScheduleStatus {
    return statusOf(this.spec, this.#state, this.#activity);
  }

  isDue(): boolean {
    return life.isDue(this.#state, Date.now());
  }

  /** The one way in which the state changes: from what it is now, never from what it was before an await. */
  change(transition: (now: ScheduleState) => ScheduleState): void {
    this.#state = transition(this.#state);
    this.#tell();
  }

  /** Says what goes on besides the state: a task, its stopping, the end. */
  show(activity: ScheduleActivity): void {
    if (this.#activity.running === null && activity.running !== null) this.#tasks += 1;
    this.#activity = activity;
    this.#tell();
  }

  /** Only between tasks. Everything is in the state, so any moment is as good as another. */
  mustRollOver(): boolean {
    return this.#tasks >= this.#state.rollOverAfterTasks || workflowInfo().continueAsNewSuggested;
  }

  /** The number of the next write to B's row. */
  nextRevision(): number {
    this.change(life.revised);
    return this.#state.revision;
  }

  /** Activities over B's rows. */
  catalog(summary: string) {
    return replicaCatalog(this.spec.replicaSite, summary);
  }

  #tell(): void {
    const status = this.status();
    setCurrentDetails(scheduleDetails(status, workflowInfo().namespace));
    if (this.#state.searchAttributes) this.#search.tell(status);
  }
}
