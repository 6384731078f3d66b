"""What a picture shows: faces, their pose and light, who it is; and how each estimator was trained."""
