export * from "@fastgpu/domain/log-frame";
