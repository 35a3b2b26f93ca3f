// Paths of SFT and DPO jobs.
import { type AnyRoute, createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { root } from "../root";
import { parseTuningSearch } from "./search";

export const tuningRoutes: AnyRoute[] = [
  createRoute({
    getParentRoute: () => root,
    path: "/dashboard/fine-tuning/supervised/$id",
    staticData: { title: "SFT job" },
    validateSearch: parseTuningSearch,
    component: lazyRouteComponent(() => import("./TuningPage"), "SftPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/dashboard/fine-tuning/dpo/$id",
    staticData: { title: "DPO job" },
    validateSearch: parseTuningSearch,
    component: lazyRouteComponent(() => import("./TuningPage"), "DpoPage"),
  }),
];
