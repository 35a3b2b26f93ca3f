// Paths of the Agent's sessions.
import { type AnyRoute, createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { root } from "../root";

export const sessionRoutes: AnyRoute[] = [
  createRoute({
    getParentRoute: () => root,
    path: "/dashboard/sessions",
    staticData: { title: "Sessions" },
    component: lazyRouteComponent(() => import("./SessionsPage"), "SessionsPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/dashboard/sessions/$id",
    staticData: { title: "Session" },
    component: lazyRouteComponent(() => import("./SessionPage"), "SessionPage"),
  }),
];
