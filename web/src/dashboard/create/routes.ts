// Path of the form that starts a job.
import { type AnyRoute, createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { root } from "../root";

export interface CreateSearch {
  kind?: "rft" | "sft";
  /** Id of a job whose options the form begins with. */
  from?: string;
  dataset?: string;
  evaluator?: string;
}

const text = (value: unknown) => (typeof value === "string" && value ? value : undefined);

export const createRoutes: AnyRoute[] = [
  createRoute({
    getParentRoute: () => root,
    path: "/dashboard/fine-tuning/create",
    component: lazyRouteComponent(() => import("./CreateJob"), "CreateJob"),
    staticData: { title: "Fine-tune a model" },
    validateSearch: (search: Record<string, unknown>): CreateSearch => ({
      kind: search.kind === "sft" ? "sft" : search.kind === "rft" ? "rft" : undefined,
      from: text(search.from),
      dataset: text(search.dataset),
      evaluator: text(search.evaluator),
    }),
  }),
];
