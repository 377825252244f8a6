from django.urls import include, path

from . import views

urlpatterns = [
    path("", views.index, name="index"),
    path("task/", include("jobtastic_ext.web.django")),
]
