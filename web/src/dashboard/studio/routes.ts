// Path of the studio.
import { type AnyRoute, createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { root } from "../root";

export const studioRoutes: AnyRoute[] = [
  createRoute({
    getParentRoute: () => root,
    path: "/dashboard/studio/$id",
    staticData: { title: "Studio" },
    component: lazyRouteComponent(() => import("./StudioPage"), "StudioPage"),
  }),
];
