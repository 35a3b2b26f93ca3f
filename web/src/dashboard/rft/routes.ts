// Paths of the jobs: all kinds in one list, one RFT job, several compared.
import { type AnyRoute, createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { root } from "../root";
import { parseJobSearch } from "./search";

export const rftRoutes: AnyRoute[] = [
  createRoute({
    getParentRoute: () => root,
    path: "/dashboard/fine-tuning",
    staticData: { title: "Fine-tuning" },
    component: lazyRouteComponent(() => import("./JobList"), "JobList"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/dashboard/fine-tuning/compare",
    staticData: { title: "Compare jobs" },
    component: lazyRouteComponent(() => import("./ComparePage"), "ComparePage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/dashboard/fine-tuning/reinforcement/$id",
    staticData: { title: "RFT job" },
    validateSearch: parseJobSearch,
    component: lazyRouteComponent(() => import("./JobPage"), "JobPage"),
  }),
];
