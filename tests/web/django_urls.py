"""The URLs of a Django project that has the status view."""

from django.urls import include, path

urlpatterns = [path("task/", include("jobtastic_ext.web.django"))]
