// Written by `make palette` from nnsight_magic/views/still/palette.py: change it there.

export const SCALES = {
  diverging: {
    light: ["#08306b", "#2a6fbb", "#86b8e3", "#f7f7f5", "#f2b380", "#d3621b", "#7a2a02"],
    dark: ["#cfe6ff", "#6fb0f2", "#2a63ad", "#17191e", "#ad4f12", "#f0944d", "#ffe3c9"],
  },
  sequential: {
    light: ["#f7f7f5", "#c3ddf2", "#7fb2e0", "#3a7fc4", "#174a92", "#081f4d"],
    dark: ["#17191e", "#1b3763", "#2a63ad", "#5b9de6", "#a9d3ff", "#f2f9ff"],
  },
  grey: { light: ["#ffffff", "#111111"], dark: ["#111111", "#ffffff"] },
} as const;

export const NAN = [217, 70, 176] as const;
export const PLUS = [92, 184, 46] as const;
export const MINUS = [28, 122, 92] as const;
