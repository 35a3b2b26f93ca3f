// The dashboard's paths: those that the clients print, and the rest around them. One file per area lists its routes; pages load lazily.
import { createRouter } from "@tanstack/react-router";
import { resourceRoutes } from "./resources/routes";
import { rftRoutes } from "./rft/routes";
import { root } from "./root";
import { sessionRoutes } from "./sessions/routes";
import { studioRoutes } from "./studio/routes";
import { tuningRoutes } from "./tuning/routes";

export const router = createRouter({
  routeTree: root.addChildren([
    ...resourceRoutes,
    ...rftRoutes,
    ...tuningRoutes,
    ...sessionRoutes,
    ...studioRoutes,
  ]),
  defaultPreload: false,
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface StaticDataRouteOption {
    /** What the browser's tab says. */
    title?: string;
  }
}
